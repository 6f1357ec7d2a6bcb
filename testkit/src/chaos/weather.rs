//! What a network can be like, and which of it is in force now. It decides how much of what has come may go on and
//! when; it never looks into the bytes.

use std::time::Duration;

use tokio::sync::watch;

/// How often a second a throttled direction may write.
const THROTTLED_WRITES_PER_S: u64 = 50;

/// What a network is like. It is the same for all connections of a proxy, those that are open and those to come.
///
/// A connection that has lost bytes to `BlackHole`, `Mute` or `HalfClose` never carries any again, because what
/// followed would make no sense: it stays silent in later weather too, until [`heal`](super::ChaosProxy::heal) or
/// [`reset_all`](super::ChaosProxy::reset_all) ends it. One that was idle meanwhile goes on as if nothing had been.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weather {
    /// What comes in goes out.
    #[default]
    Fair,
    /// In each direction, what has come is kept for so long, and everything that comes meanwhile goes after it.
    Delay {
        /// At least.
        ms: u64,
        /// And up to so much more, at random.
        jitter_ms: u64,
    },
    /// Each direction of each connection is so fast and no faster. Nothing passes at 0.
    Throttle {
        /// The speed.
        bytes_per_s: u64,
    },
    /// Everything goes on one byte at a time.
    Slice,
    /// Everything is accepted and vanishes; nobody is told, not even that the other side has closed or died.
    BlackHole,
    /// Requests arrive and are executed; their replies vanish.
    Mute,
    /// The replies end as if the server had closed its side in good order; requests still arrive.
    HalfClose,
    /// New connections are reset as soon as they are made, open ones now.
    Refuse,
    /// Fair and Refuse in turn, beginning with Fair.
    Flap {
        /// How long it is fair.
        up_ms: u64,
        /// How long it refuses.
        down_ms: u64,
    },
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Everything a connection must know of the world, as one value, so that it is never seen half-changed.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Sky {
    /// What was asked for.
    asked: Weather,
    /// What is in force: what was asked for, or a phase of it. Never `Flap`.
    pub now: Weather,
    /// Goes up when another weather is asked for.
    edition: u64,
    /// Goes up with every healing, which ends the connections that have lost bytes.
    pub heals: u64,
    /// Goes up whenever every open connection is to be reset.
    pub resets: u64,
    /// Goes up whenever the connections that a trap holds are to be cut.
    pub cuts: u64,
}

impl Sky {
    pub(super) fn turn_to(&mut self, weather: Weather) {
        self.asked = weather;
        self.edition += 1;
        self.enter(if matches!(weather, Weather::Flap { .. }) { Weather::Fair } else { weather });
    }

    fn enter(&mut self, phase: Weather) {
        self.now = phase;
        self.resets += u64::from(phase == Weather::Refuse);
    }

    /// Whether bytes that go this way are lost.
    pub(super) fn swallows(&self, direction: Direction) -> bool {
        match self.now {
            Weather::BlackHole => true,
            Weather::Mute | Weather::HalfClose => direction == Direction::Down,
            _ => false,
        }
    }

    /// How many of so many bytes may go next, and after how long.
    pub(super) fn portion(&self, bytes: usize) -> (usize, Duration) {
        match self.now {
            Weather::Delay { ms, jitter_ms } => {
                (bytes, Duration::from_millis(ms + rand::random_range(0..=jitter_ms)))
            }
            Weather::Throttle { bytes_per_s: 0 } => (bytes, Duration::MAX),
            Weather::Throttle { bytes_per_s } => {
                let most = usize::try_from(bytes_per_s / THROTTLED_WRITES_PER_S).unwrap_or(usize::MAX).max(1);
                let portion = bytes.min(most);
                (portion, Duration::from_secs_f64(portion as f64 / bytes_per_s as f64))
            }
            Weather::Slice => (1, Duration::ZERO),
            _ => (bytes, Duration::ZERO),
        }
    }
}

/// Changes the phases of weather that has some. Never ends.
pub(super) async fn blow(sky: watch::Sender<Sky>) {
    let mut changes = sky.subscribe();
    loop {
        let Sky { asked, edition, .. } = *changes.borrow_and_update();
        let phases: &[(Weather, u64)] = match asked {
            Weather::Flap { up_ms, down_ms } => &[(Weather::Fair, up_ms), (Weather::Refuse, down_ms)],
            _ => &[],
        };
        let blowing = async {
            if phases.is_empty() {
                return std::future::pending().await;
            }
            for (phase, ms) in phases.iter().cycle() {
                // Another weather may have been asked for just now; it is not to be overwritten.
                sky.send_if_modified(|sky| {
                    let is_current = sky.edition == edition;
                    if is_current {
                        sky.enter(*phase);
                    }
                    is_current
                });
                tokio::time::sleep(Duration::from_millis(*ms)).await;
            }
        };
        tokio::select! {
            () = blowing => {}
            changed = changes.wait_for(|sky| sky.edition != edition) => {
                drop(changed.expect("we hold a sender ourselves"));
            }
        }
    }
}
