//! One direction of one connection: reads, asks the traps, and writes as the weather lets it. It must never write a
//! byte behind one that was lost.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::frames::{Framer, Piece};
use super::trap::Act;
use super::weather::{Direction, Sky, Weather};
use super::{Shared, Wire, postgres, redis};

const READ_BYTES: usize = 64 << 10;

/// Why a connection does not come to a good end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// Both sides are to be reset.
    Reset,
    /// The client's side is to be reset, and the server's to be closed.
    CutReply,
}

/// What is to be done about a message.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Verdict {
    /// Before it is passed on, and instead of it unless this is a pause.
    pub before: Option<Act>,
    /// After it was passed on.
    pub after: Option<Act>,
    /// Whether what follows it must wait until everything was answered.
    pub waits: bool,
    /// How many replies it will have, or is.
    pub turns: usize,
}

/// What the two directions of a connection share.
#[derive(Debug)]
pub(super) struct Link<'a> {
    shared: &'a Shared,
    talk: Mutex<Talk>,
    owed: watch::Sender<Owed>,
    is_black: AtomicBool,
}

#[derive(Debug)]
enum Talk {
    Plain,
    Redis(redis::Talk),
    Postgres(postgres::Talk),
}

/// Replies that were not delivered yet.
#[derive(Default, Debug)]
struct Owed {
    replies: usize,
    /// They can no longer be counted, or will never be delivered.
    is_unknown: bool,
}

impl<'a> Link<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        let talk = match shared.wire {
            Wire::Plain => Talk::Plain,
            Wire::Redis => Talk::Redis(redis::Talk::default()),
            Wire::Postgres => Talk::Postgres(postgres::Talk::default()),
        };
        Self {
            shared,
            talk: Mutex::new(talk),
            owed: watch::Sender::new(Owed::default()),
            is_black: AtomicBool::new(false),
        }
    }

    fn judge(&self, direction: Direction, message: &[u8]) -> Verdict {
        let mut talk = self.talk.lock().expect("nobody panics with a connection's talk in hand");
        let traps = &self.shared.traps;
        match (&mut *talk, direction) {
            (Talk::Plain, _) => Verdict::default(),
            (Talk::Redis(talk), Direction::Up) => talk.request(message, traps),
            (Talk::Redis(talk), Direction::Down) => talk.reply(message, traps),
            (Talk::Postgres(talk), Direction::Up) => talk.request(message, traps),
            (Talk::Postgres(talk), Direction::Down) => talk.reply(message, traps),
        }
    }

    /// From now on nobody waits for replies on this connection.
    fn stop_counting_replies(&self) {
        self.owed.send_modify(|owed| owed.is_unknown = true);
    }
}

/// One direction of a connection.
pub(super) struct Pump<'a> {
    direction: Direction,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    link: &'a Link<'a>,
    sky: watch::Receiver<Sky>,
    /// The sky when it was last looked at.
    seen: Sky,
    framer: Framer,
    /// What may be written, and how many replies it asks for or is.
    ready: BytesMut,
    turns: usize,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        direction: Direction,
        from: ReadHalf<'a>,
        to: WriteHalf<'a>,
        link: &'a Link<'a>,
    ) -> Self {
        Self {
            direction,
            from,
            to,
            link,
            sky: link.shared.sky.subscribe(),
            seen: *link.shared.sky.borrow(),
            framer: Framer::new(link.shared.wire, direction),
            ready: BytesMut::new(),
            turns: 0,
        }
    }

    /// Pumps until the sender closes, and then closes this direction.
    pub(super) async fn run(mut self) -> Result<(), Ending> {
        loop {
            let read = self.read().await;
            self.look();
            // Silence loses nothing, unless the end of the replies is to be seen at once.
            let has_come = read.is_some() || self.seen.now == Weather::HalfClose;
            if has_come && self.loses() {
                return self.swallow().await;
            }
            match read {
                None => {}
                Some(Err(_)) => return Err(Ending::Reset),
                Some(Ok(0)) => {
                    if self.direction == Direction::Down {
                        self.link.stop_counting_replies();
                    }
                    self.ready.unsplit(self.framer.rest());
                    self.write_ready().await?;
                    return self.to.shutdown().await.map_err(reset);
                }
                Some(Ok(_)) => {
                    self.pass_on().await?;
                    self.write_ready().await?;
                }
            }
        }
    }

    /// Reads what is there, or returns `None` because the weather has changed.
    async fn read(&mut self) -> Option<io::Result<usize>> {
        let buffer = self.framer.buffer();
        buffer.reserve(READ_BYTES);
        tokio::select! {
            read = self.from.read_buf(buffer) => Some(read),
            _ = self.sky.changed() => None,
        }
    }

    fn look(&mut self) {
        self.seen = *self.sky.borrow_and_update();
    }

    /// Whether bytes that go this way are lost.
    fn loses(&self) -> bool {
        self.link.is_black.load(Ordering::SeqCst) || self.seen.swallows(self.direction)
    }

    /// Makes ready what may be written, message by message.
    async fn pass_on(&mut self) -> Result<(), Ending> {
        while let Some(piece) = self.framer.next() {
            let message = match piece {
                Piece::Message(message) => message,
                Piece::Raw(bytes) => {
                    self.link.stop_counting_replies();
                    self.make_ready(bytes);
                    continue;
                }
            };
            let before = self.seen;
            let verdict = self.link.judge(self.direction, &message);
            if let Some(act) = verdict.before {
                self.perform(act, before, message.len()).await?;
            }
            self.make_ready(message);
            self.turns += verdict.turns;
            if let Some(act) = verdict.after {
                self.perform(act, before, 0).await?;
            }
            if verdict.waits {
                self.write_ready().await?;
                self.all_answered().await;
            }
        }
        Ok(())
    }

    /// Pieces that were neighbours when they arrived are put together again without copying.
    fn make_ready(&mut self, bytes: BytesMut) {
        self.ready.unsplit(bytes);
    }

    /// Does what a trap demands after what is ready was written, with a message of so many bytes in hand that passes
    /// only if this returns well. The trap has sprung under the sky of `before`; a healing since undoes what it does.
    async fn perform(&mut self, act: Act, before: Sky, bytes_in_hand: usize) -> Result<(), Ending> {
        self.write_ready().await?;
        self.seen.heals = before.heals;
        match act {
            Act::Pause { ms } => {
                let healed = self.sky.wait_for(|sky| sky.heals != before.heals);
                // Either is a reason to go on.
                drop(tokio::time::timeout(Duration::from_millis(ms), healed).await);
                return Ok(());
            }
            Act::Hold => {
                let ended =
                    self.sky.wait_for(|sky| sky.heals != before.heals || sky.cuts != before.cuts).await;
                if ended.expect("the proxy outlives its connections").heals != before.heals {
                    return Ok(());
                }
                return Err(Ending::CutReply);
            }
            Act::BlackHole => {
                self.link.is_black.store(true, Ordering::SeqCst);
                self.link.shared.counts.lost(bytes_in_hand);
                return self.swallow().await;
            }
            Act::Cut | Act::CutReply => {}
        }
        if self.direction == Direction::Up {
            // A reset would reach the server before it has read what was sent before.
            self.all_answered().await;
        }
        Err(if act == Act::CutReply { Ending::CutReply } else { Ending::Reset })
    }

    /// Waits until the client has all its replies, or the proxy is healed. At once for protocols whose replies are not
    /// counted.
    async fn all_answered(&mut self) {
        let heals = self.seen.heals;
        let mut owed = self.link.owed.subscribe();
        tokio::select! {
            answered = owed.wait_for(|owed| owed.is_unknown || owed.replies == 0) => {
                drop(answered.expect("the link outlives its pumps"));
            }
            healed = self.sky.wait_for(|sky| sky.heals != heals) => {
                drop(healed.expect("the proxy outlives its connections"));
            }
        }
    }

    /// Writes what is ready, as the weather lets it.
    async fn write_ready(&mut self) -> Result<(), Ending> {
        let turns = std::mem::take(&mut self.turns);
        if self.direction == Direction::Up {
            self.link.owed.send_if_modified(|owed| {
                owed.replies += turns;
                false
            });
        }
        while !self.ready.is_empty() {
            self.look();
            if self.loses() {
                return self.swallow().await;
            }
            let (bytes, delay) = self.seen.portion(self.ready.len());
            if !delay.is_zero() && tokio::time::timeout(delay, self.sky.changed()).await.is_ok() {
                continue;
            }
            if self.loses() {
                continue;
            }
            self.to.write_all(&self.ready.split_to(bytes)).await.map_err(reset)?;
            self.link.shared.counts.passed(self.direction, bytes);
        }
        if self.direction == Direction::Down && turns > 0 {
            self.link.owed.send_modify(|owed| owed.replies = owed.replies.saturating_sub(turns));
        }
        Ok(())
    }

    /// Loses everything from here on. Ends with the next healing.
    async fn swallow(&mut self) -> Result<(), Ending> {
        if self.direction == Direction::Down {
            self.link.stop_counting_replies();
            if self.seen.now == Weather::HalfClose {
                self.to.shutdown().await.map_err(reset)?;
            }
        }
        let lost = self.ready.len() + self.framer.rest().len();
        self.link.shared.counts.lost(lost);
        swallow(&mut self.from, &mut self.sky, self.seen.heals, self.link.shared).await;
        Err(Ending::Reset)
    }
}

/// Reads and throws away, and does not mind if there is no more, until the proxy is healed.
pub(super) async fn swallow(
    from: &mut ReadHalf<'_>,
    sky: &mut watch::Receiver<Sky>,
    heals: u64,
    shared: &Shared,
) {
    let losing = async {
        let mut lost = BytesMut::with_capacity(READ_BYTES);
        while let Ok(bytes @ 1..) = from.read_buf(&mut lost).await {
            shared.counts.lost(bytes);
            lost.clear();
        }
        std::future::pending().await
    };
    tokio::select! {
        () = losing => {}
        healed = sky.wait_for(|sky| sky.heals != heals) => {
            drop(healed.expect("the proxy outlives its connections"));
        }
    }
}

fn reset(_: io::Error) -> Ending {
    Ending::Reset
}
