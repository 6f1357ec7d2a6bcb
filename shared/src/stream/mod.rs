//! The first place an event can be: the stream of admitted batches that are not stored yet.
//!
//! This module is the contract, [`redis`] its implementation on Redis Streams, [`embedded`] the one on a file of our own,
//! for one process that is API and worker at once. The conformance suite in `shared/tests/stream/` is written against
//! the traits alone; every implementation must pass it.
//!
//! What an implementation must never do: answer [`Verdict::Admitted`] before the batch is on disk, charge a batch
//! that it does not append, drop an entry that was not settled, or refund twice.

pub mod embedded;
pub mod redis;

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

pub use crate::entry::EntryId;
pub use crate::event::BatchId;

use crate::entry::{Damage, Packed};
use crate::metrics;
use crate::plan::{Plan, ProjectId, Standing};

/// A stream's life. A stream that has lost its memory has another epoch, or none.
pub type Epoch = Uuid;

/// One batch that asks to be let in. Once admitted it is remembered while it is pending and for some seconds after it was
/// settled, so that whoever lost the answer can ask again.
#[derive(Clone, Debug)]
pub struct Admission<'a> {
    /// The batch as it will stand in the stream: batch id, project, count, rows.
    pub packed: &'a Packed,
    /// The plan to check it against.
    pub plan: &'a Plan,
    /// For a batch with an `Idempotency-Key`: a digest of the request body. The batch id is then remembered for 24
    /// hours after it was settled, and the same id with another digest is a [`Verdict::Conflict`].
    pub digest: Option<[u8; 16]>,
    /// The client waits for the outcome (`Prefer: wait`): keep it for a minute after the batch was settled.
    pub awaited: bool,
}

/// What became of an [`Admission`]. Everything but `Admitted` has changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// On disk, charged, will be stored. `received_ms` is the stream's clock, and the time the batch is metered at.
    Admitted {
        /// Milliseconds since 1970.
        received_ms: u64,
        /// After the charge.
        standing: Standing,
    },
    /// This batch id was admitted before, with the same digest: give the first answer again.
    Repeated {
        /// When it was admitted, milliseconds since 1970.
        received_ms: u64,
        /// Unchanged by this request.
        standing: Standing,
    },
    /// This batch id was admitted before with another body.
    Conflict {
        /// Unchanged by this request.
        standing: Standing,
    },
    /// Too many events wait to be stored.
    BacklogFull {
        /// Unchanged by this request.
        standing: Standing,
    },
    /// Over the rate limit.
    RateLimited {
        /// Microseconds in which nothing of this project can pass.
        wait_us: u64,
        /// Unchanged by this request.
        standing: Standing,
    },
    /// The batch does not fit into the month's quota.
    QuotaExceeded {
        /// Unchanged by this request.
        standing: Standing,
    },
    /// The stream is not the one whose counters we trust: nothing is admitted until they are rebuilt.
    EpochChanged,
}

/// Where a batch is, as far as the stream remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BatchState {
    /// Admitted by this project, not settled.
    Pending {
        /// Whose batch it is.
        project: ProjectId,
        /// Events in it.
        count: u32,
    },
    /// Settled a short time ago.
    Settled {
        /// Whose batch it was.
        project: ProjectId,
        /// Its outcome.
        outcome: Outcome,
    },
    /// Never admitted, or settled and forgotten: ask the store.
    Unknown,
}

/// How the events of one batch ended. `stored + duplicate + dead` is the batch's count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Outcome {
    /// New rows in `events`.
    pub stored: u32,
    /// Events that were stored before.
    pub duplicate: u32,
    /// Events the database refused, now in `dead_letters`.
    pub dead: u32,
}

/// One entry handed to a lane. It stays pending for that lane's consumer until it is settled.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its place in the stream.
    pub id: EntryId,
    /// How often it has been handed out, this time included (1 = first). Only exact after a take-over.
    pub delivered: u32,
    /// The batch, still packed; or what is wrong with it and as much as could be read.
    pub packed: Result<Packed, Damage>,
}

/// What [`Reader::take_over`] brought.
#[derive(Clone, Debug, Default)]
pub struct TakeOver {
    /// Entries of consumers that have been silent too long; ours now.
    pub deliveries: Vec<Delivery>,
    /// Entries that were pending but are no longer in the stream: somebody trimmed or deleted them unread. Each is
    /// evidence of loss, to be counted and alarmed.
    pub vanished: Vec<EntryId>,
}

/// A batch that is committed in the store, to be removed from the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settlement {
    /// The entry.
    pub id: EntryId,
    /// Its batch, to forget or to keep the outcome of. Nil when the entry was too damaged to tell.
    pub batch_id: BatchId,
    /// Its project. `ProjectId(0)` when the entry was too damaged to tell.
    pub project: ProjectId,
    /// Events in the batch, as it was admitted.
    pub count: u32,
    /// Packed bytes of the batch, as it was admitted.
    pub bytes: u32,
    /// What the store made of it; duplicates and dead letters are refunded.
    pub outcome: Outcome,
}

/// How much waits to be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backlog {
    /// Batches.
    pub entries: u64,
    /// Events in them.
    pub events: u64,
    /// Packed bytes in them.
    pub bytes: u64,
    /// Age of the oldest, in milliseconds on the stream's clock; 0 when nothing waits.
    pub oldest_age_ms: u64,
}

/// What the stream holds of one project, for audits and for rebuilding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProjectCounters {
    /// The project.
    pub project: ProjectId,
    /// Events ever admitted.
    pub accepted: u64,
    /// Of these, not settled yet.
    pub pending: i64,
    /// The month that `used` belongs to, as [`crate::plan::month_of`] writes it.
    pub month: u32,
    /// Events charged to that month, refunds taken off.
    pub used: u64,
}

/// A batch that stands in the stream, without its rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingBatch {
    /// Its place.
    pub id: EntryId,
    /// Its name.
    pub batch_id: BatchId,
    /// Its project.
    pub project: ProjectId,
    /// Its events.
    pub count: u32,
    /// Its packed bytes.
    pub bytes: u32,
}

/// Why the stream could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamError {
    /// Not connected, or the circuit breaker is open. Nothing was sent.
    #[error("the stream is unavailable: {0}")]
    Unavailable(String),
    /// Sent, but no answer came: it may or may not have happened.
    #[error("the stream did not answer in time; the outcome is unknown: {0}")]
    Unknown(String),
    /// The stream's disk or memory is full, or it is read-only: nothing was written.
    #[error("the stream takes no writes: {0}")]
    Full(String),
    /// The stream's epoch is not the one we trust; nothing was changed.
    #[error("the stream's epoch has changed")]
    EpochChanged,
    /// An answer we do not understand, or a refusal that is a defect of ours or of the set-up.
    #[error("the stream refused: {0}")]
    Refused(String),
}

/// Counts a failure on its way to the caller.
fn counted(error: StreamError) -> StreamError {
    metrics::stream_error(match &error {
        StreamError::Unavailable(_) => "unavailable",
        StreamError::Unknown(_) => "unknown",
        StreamError::Full(_) => "full",
        StreamError::EpochChanged => "epoch_changed",
        StreamError::Refused(_) => "refused",
    });
    error
}

/// The stream, as API processes, workers and operators see it. Cheap to share; safe to call from any task.
#[async_trait]
pub trait Stream: Send + Sync {
    /// How many shards there are.
    fn shards(&self) -> u16;

    /// Checks the plan and appends the batch, in one durable step. See [`Verdict`].
    ///
    /// # Errors
    /// [`StreamError`]; after `Unknown` the batch may have been admitted, and the same call may be made again.
    async fn admit(&self, admission: &Admission<'_>) -> Result<Verdict, StreamError>;

    /// What the stream remembers of a batch of this project's shard.
    async fn batch_state(&self, project: ProjectId, batch_id: BatchId) -> Result<BatchState, StreamError>;

    /// The project's rate and quota right now, changing nothing.
    async fn standing(&self, project: ProjectId) -> Result<Standing, StreamError>;

    /// How much waits, over all shards.
    async fn backlog(&self) -> Result<Backlog, StreamError>;

    /// What is wrong with the durability settings; empty when acknowledged means on disk.
    async fn durability_faults(&self) -> Result<Vec<String>, StreamError>;

    /// Opens a reader with its own connection. `consumer` must be unique to one lane of one process life.
    async fn reader(&self, shard: u16, consumer: &str) -> Result<Box<dyn Reader>, StreamError>;

    /// Removes committed entries. Of each entry that was still pending, and only of those, duplicates and dead
    /// letters are refunded to the month the batch was received in. Returns how many were still pending.
    ///
    /// # Errors
    /// [`StreamError`]; after any error the same call may be made again.
    async fn settle(&self, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError>;

    /// Counts an attempt to write this entry alone, before the attempt; returns the count. An attempt that ended,
    /// well or badly, is forgotten with [`Stream::forget_attempts`]; so the count is of attempts that never returned.
    async fn note_attempt(&self, shard: u16, id: EntryId) -> Result<u32, StreamError>;

    /// Forgets the attempts of an entry. Settling does it, too.
    async fn forget_attempts(&self, shard: u16, id: EntryId) -> Result<(), StreamError>;

    /// Removes consumers that have been idle this long and have nothing pending. Returns how many.
    async fn retire_consumers(&self, shard: u16, idle: Duration) -> Result<u64, StreamError>;

    /// The epoch the shard bears, if any.
    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StreamError>;

    /// From now on only this epoch is trusted on the shard; until the first call nothing is admitted or settled.
    fn trust_epoch(&self, shard: u16, epoch: Epoch);

    /// Every batch in the shard's stream, oldest first, rows left out.
    async fn pending_batches(&self, shard: u16) -> Result<Vec<PendingBatch>, StreamError>;

    /// Begins a rebuild under this epoch: from now on nothing is admitted to the shard or settled on it, by anyone,
    /// whatever epoch they trust, until [`Stream::rebuild`] is called with the same epoch. A later fence replaces it.
    /// Without it, a batch admitted and settled between the count and the rebuild would be forgotten.
    async fn fence(&self, shard: u16, epoch: Epoch) -> Result<(), StreamError>;

    /// Replaces all counters of the shard and gives it a new epoch, in one step, if the shard is still fenced under
    /// this epoch and `expected` is what stands in the stream. Returns false, with nothing changed, when it is not.
    async fn rebuild(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[ProjectCounters],
        expected: &[PendingBatch],
    ) -> Result<bool, StreamError>;

    /// The counters of these projects, each read in one step.
    async fn counters(&self, projects: &[ProjectId]) -> Result<Vec<ProjectCounters>, StreamError>;
}

/// One lane's own view of one shard.
#[async_trait]
pub trait Reader: Send {
    /// The next entries nobody has read, at most `entries_max`; waits up to `wait` for the first (zero: not at all).
    async fn next(&mut self, entries_max: usize, wait: Duration) -> Result<Vec<Delivery>, StreamError>;

    /// Entries this consumer was handed and has not settled, after `after`, oldest first. To be read to the end
    /// after every error.
    async fn own_pending(&mut self, after: EntryId, entries_max: usize)
    -> Result<Vec<Delivery>, StreamError>;

    /// Takes entries over from consumers that have been silent for `idle`.
    async fn take_over(&mut self, idle: Duration, entries_max: usize) -> Result<TakeOver, StreamError>;

    /// Leaves the group if nothing is pending for this consumer; otherwise does nothing.
    async fn leave(&mut self) -> Result<(), StreamError>;
}

/// A shared [`Stream`] of any kind.
pub type SharedStream = std::sync::Arc<dyn Stream>;
