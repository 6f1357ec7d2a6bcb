//! One direction of one connection: reads, asks the traps, and writes as the weather allows. It must never
//! write a byte after an earlier one was lost.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::frames::{Framer, Piece};
use super::plan::MessagePlan;
use super::state::ProxyState;
use super::trap::Act;
use super::weather::{Sky, Weather};
use super::wire::{Direction, Wire};
use super::{postgres, redis};

const READ_BYTES: usize = 64 << 10;

/// How a connection ends when it is not closed cleanly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// Reset both sides.
    Reset,
    /// Reset the client's side and close the server's.
    CutReply,
}

/// What the two directions of a connection share.
#[derive(Debug)]
pub(super) struct Link<'a> {
    state: &'a ProxyState,
    conversation: Mutex<Conversation>,
    outstanding: watch::Sender<OutstandingReplies>,
    is_black: AtomicBool,
}

#[derive(Debug)]
enum Conversation {
    Plain,
    Redis(redis::Conversation),
    Postgres(postgres::Conversation),
}

/// Replies that have not been delivered yet.
#[derive(Default, Debug)]
struct OutstandingReplies {
    count: usize,
    /// The replies can no longer be counted, or will never be delivered.
    is_unknown: bool,
}

impl<'a> Link<'a> {
    pub(super) fn new(state: &'a ProxyState) -> Self {
        let conversation = match state.wire {
            Wire::Plain => Conversation::Plain,
            Wire::Redis => Conversation::Redis(redis::Conversation::default()),
            Wire::Postgres => Conversation::Postgres(postgres::Conversation::default()),
        };
        Self {
            state,
            conversation: Mutex::new(conversation),
            outstanding: watch::Sender::new(OutstandingReplies::default()),
            is_black: AtomicBool::new(false),
        }
    }

    fn plan(&self, direction: Direction, message: &[u8]) -> MessagePlan {
        let mut conversation =
            self.conversation.lock().expect("no thread panics while it holds the conversation");
        let traps = &self.state.traps;
        match (&mut *conversation, direction) {
            (Conversation::Plain, _) => MessagePlan::default(),
            (Conversation::Redis(conversation), Direction::Up) => conversation.request(message, traps),
            (Conversation::Redis(conversation), Direction::Down) => conversation.reply(message, traps),
            (Conversation::Postgres(conversation), Direction::Up) => conversation.request(message, traps),
            (Conversation::Postgres(conversation), Direction::Down) => conversation.reply(message, traps),
        }
    }

    /// Stops the waiting for replies on this connection.
    fn stop_counting_replies(&self) {
        self.outstanding.send_modify(|outstanding| outstanding.is_unknown = true);
    }
}

/// One direction of a connection.
pub(super) struct Pump<'a> {
    direction: Direction,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    link: &'a Link<'a>,
    sky: watch::Receiver<Sky>,
    /// The last value read from `sky`.
    current: Sky,
    framer: Framer,
    /// Bytes that may be written.
    ready: BytesMut,
    /// Replies that the ready messages will get, or are.
    ready_replies: usize,
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
            sky: link.state.sky.subscribe(),
            current: *link.state.sky.borrow(),
            framer: Framer::new(link.state.wire, direction),
            ready: BytesMut::new(),
            ready_replies: 0,
        }
    }

    /// Pumps until the sender closes, and then closes this direction.
    pub(super) async fn run(mut self) -> Result<(), Ending> {
        loop {
            let read = self.read().await;
            self.update_sky();
            // An idle connection loses nothing, except in a half close, whose end of stream is sent
            // immediately.
            let must_act = read.is_some() || self.current.now == Weather::HalfClose;
            if must_act && self.discards() {
                return self.discard_rest().await;
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
                    self.forward().await?;
                    self.write_ready().await?;
                }
            }
        }
    }

    /// Reads available bytes, or returns `None` when the weather has changed.
    async fn read(&mut self) -> Option<io::Result<usize>> {
        let buffer = self.framer.buffer();
        buffer.reserve(READ_BYTES);
        tokio::select! {
            read = self.from.read_buf(buffer) => Some(read),
            _ = self.sky.changed() => None,
        }
    }

    fn update_sky(&mut self) {
        self.current = *self.sky.borrow_and_update();
    }

    /// Whether bytes in this direction are lost.
    fn discards(&self) -> bool {
        self.link.is_black.load(Ordering::SeqCst) || self.current.discards(self.direction)
    }

    /// Moves messages from the framer to `ready`, and performs the acts of traps in between.
    async fn forward(&mut self) -> Result<(), Ending> {
        while let Some(piece) = self.framer.next() {
            let message = match piece {
                Piece::Message(message) => message,
                Piece::Raw(bytes) => {
                    self.link.stop_counting_replies();
                    self.make_ready(bytes);
                    continue;
                }
            };
            let before = self.current;
            let plan = self.link.plan(self.direction, &message);
            if let Some(act) = plan.before {
                self.perform(act, before, message.len()).await?;
            }
            self.make_ready(message);
            self.ready_replies += plan.replies;
            if let Some(act) = plan.after {
                self.perform(act, before, 0).await?;
            }
            if plan.waits {
                self.write_ready().await?;
                self.wait_for_replies().await;
            }
        }
        Ok(())
    }

    /// Pieces that arrived next to each other are joined without copying.
    fn make_ready(&mut self, bytes: BytesMut) {
        self.ready.unsplit(bytes);
    }

    /// Writes the ready bytes and performs the act of a trap. The caller forwards the current message, of
    /// `message_bytes` bytes, only if this returns `Ok`. `before` is the sky at which the trap has sprung: a
    /// healing since then cancels the act.
    async fn perform(&mut self, act: Act, before: Sky, message_bytes: usize) -> Result<(), Ending> {
        self.write_ready().await?;
        self.current.heals = before.heals;
        match act {
            Act::Pause { ms } => {
                let healed = self.sky.wait_for(|sky| sky.heals != before.heals);
                // The direction continues in both cases.
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
                self.link.state.counters.count_lost(message_bytes);
                return self.discard_rest().await;
            }
            Act::Cut | Act::CutReply => {}
        }
        if self.direction == Direction::Up {
            // A reset would reach the server before it has read the earlier messages.
            self.wait_for_replies().await;
        }
        Err(if act == Act::CutReply { Ending::CutReply } else { Ending::Reset })
    }

    /// Waits until the client has all its replies or the proxy is healed. Returns immediately for protocols
    /// whose replies are not counted.
    async fn wait_for_replies(&mut self) {
        let heals = self.current.heals;
        let mut outstanding = self.link.outstanding.subscribe();
        tokio::select! {
            answered = outstanding.wait_for(|outstanding| outstanding.is_unknown || outstanding.count == 0) => {
                drop(answered.expect("the link outlives its pumps"));
            }
            healed = self.sky.wait_for(|sky| sky.heals != heals) => {
                drop(healed.expect("the proxy outlives its connections"));
            }
        }
    }

    /// Writes the ready bytes as the weather allows.
    async fn write_ready(&mut self) -> Result<(), Ending> {
        let replies = std::mem::take(&mut self.ready_replies);
        if self.direction == Direction::Up {
            self.link.outstanding.send_if_modified(|outstanding| {
                outstanding.count += replies;
                false
            });
        }
        while !self.ready.is_empty() {
            self.update_sky();
            if self.discards() {
                return self.discard_rest().await;
            }
            let (bytes, delay) = self.current.portion(self.ready.len());
            if !delay.is_zero() && tokio::time::timeout(delay, self.sky.changed()).await.is_ok() {
                continue;
            }
            if self.discards() {
                continue;
            }
            self.to.write_all(&self.ready.split_to(bytes)).await.map_err(reset)?;
            self.link.state.counters.count_forwarded(self.direction, bytes);
        }
        if self.direction == Direction::Down && replies > 0 {
            self.link.outstanding.send_modify(|outstanding| {
                outstanding.count = outstanding.count.saturating_sub(replies);
            });
        }
        Ok(())
    }

    /// Discards everything from now on, until the proxy is healed.
    async fn discard_rest(&mut self) -> Result<(), Ending> {
        if self.direction == Direction::Down {
            self.link.stop_counting_replies();
            if self.current.now == Weather::HalfClose {
                self.to.shutdown().await.map_err(reset)?;
            }
        }
        let lost = self.ready.len() + self.framer.rest().len();
        self.link.state.counters.count_lost(lost);
        discard_until_healed(&mut self.from, &mut self.sky, self.current.heals, self.link.state).await;
        Err(Ending::Reset)
    }
}

/// Reads and discards until the proxy is healed, also after the end of the stream.
pub(super) async fn discard_until_healed(
    from: &mut ReadHalf<'_>,
    sky: &mut watch::Receiver<Sky>,
    heals: u64,
    state: &ProxyState,
) {
    let discarding = async {
        let mut discarded = BytesMut::with_capacity(READ_BYTES);
        while let Ok(bytes @ 1..) = from.read_buf(&mut discarded).await {
            state.counters.count_lost(bytes);
            discarded.clear();
        }
        std::future::pending().await
    };
    tokio::select! {
        () = discarding => {}
        healed = sky.wait_for(|sky| sky.heals != heals) => {
            drop(healed.expect("the proxy outlives its connections"));
        }
    }
}

fn reset(_: io::Error) -> Ending {
    Ending::Reset
}
