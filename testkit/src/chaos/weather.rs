//! The weather of a proxy: how much of the received data is forwarded, and when. It never looks into the
//! bytes.

use std::time::Duration;

use tokio::sync::watch;

use super::wire::Direction;

/// Writes per second of a throttled direction.
const THROTTLED_WRITES_PER_S: u64 = 50;

/// The behavior of the network. It applies to all connections of a proxy, open and future.
///
/// A connection that has lost bytes to `BlackHole`, `Mute` or `HalfClose` never carries any again, because
/// the rest of the stream would make no sense. It stays silent in later weather too, until `ChaosProxy::heal`
/// or `ChaosProxy::reset_all` ends it. A connection that was idle meanwhile continues unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weather {
    /// Everything is forwarded immediately.
    #[default]
    Fair,
    /// Each direction holds received data for this long. Data that arrives meanwhile follows it.
    Delay {
        /// Minimum delay.
        ms: u64,
        /// Upper bound of the random addition.
        jitter_ms: u64,
    },
    /// Limits the speed of each direction of each connection. At 0 nothing passes.
    Throttle { bytes_per_s: u64 },
    /// Forwards one byte at a time.
    Slice,
    /// Accepts everything and discards it. Neither side learns anything, not even that the other side has
    /// closed.
    BlackHole,
    /// Forwards requests and discards the replies.
    Mute,
    /// Ends the replies as if the server had closed its side cleanly. Still forwards requests.
    HalfClose,
    /// Resets open connections, and new ones as soon as they are accepted.
    Refuse,
    /// Alternates between Fair and Refuse, starting with Fair.
    Flap {
        /// Length of the Fair phase.
        up_ms: u64,
        /// Length of the Refuse phase.
        down_ms: u64,
    },
}

/// The state of the weather, as one value, so that no connection reads a half-changed one.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Sky {
    requested: Weather,
    /// The weather in effect: the requested one, or its current phase. Never `Flap`.
    pub now: Weather,
    /// Incremented when another weather is requested.
    edition: u64,
    /// Incremented by every healing, which ends the connections that have lost bytes.
    pub heals: u64,
    /// Incremented when every open connection is to be reset.
    pub resets: u64,
    /// Incremented when the connections held by a trap are to be cut.
    pub cuts: u64,
}

impl Sky {
    pub(super) fn change_to(&mut self, weather: Weather) {
        self.requested = weather;
        self.edition += 1;
        self.enter(if matches!(weather, Weather::Flap { .. }) { Weather::Fair } else { weather });
    }

    fn enter(&mut self, phase: Weather) {
        self.now = phase;
        self.resets += u64::from(phase == Weather::Refuse);
    }

    /// Whether bytes in this direction are lost.
    pub(super) fn discards(&self, direction: Direction) -> bool {
        match self.now {
            Weather::BlackHole => true,
            Weather::Mute | Weather::HalfClose => direction == Direction::Down,
            _ => false,
        }
    }

    /// How many of `bytes` ready bytes may be written next, and after which delay.
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

/// Switches between the phases of weather that has phases. Never returns.
pub(super) async fn run_phases(sky: watch::Sender<Sky>) {
    let mut changes = sky.subscribe();
    loop {
        let Sky { requested, edition, .. } = *changes.borrow_and_update();
        let phases: &[(Weather, u64)] = match requested {
            Weather::Flap { up_ms, down_ms } => &[(Weather::Fair, up_ms), (Weather::Refuse, down_ms)],
            _ => &[],
        };
        let switching = async {
            if phases.is_empty() {
                return std::future::pending().await;
            }
            for (phase, ms) in phases.iter().cycle() {
                // Another weather may have been requested meanwhile. It must not be overwritten.
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
            () = switching => {}
            changed = changes.wait_for(|sky| sky.edition != edition) => {
                drop(changed.expect("this function holds a sender"));
            }
        }
    }
}
