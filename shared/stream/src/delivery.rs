//! What the stream hands to a lane, and what the lane gives back.

use millrace_event::entry::{Damage, PackedBatch};
use millrace_event::plan::ProjectId;
use millrace_event::{BatchId, EntryId, Outcome};

/// One entry handed to a lane. It stays pending for that lane's consumer until it is settled.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its place in the stream.
    pub id: EntryId,
    /// How often it has been handed out, this time included (1 = first). Only exact after a take-over.
    pub delivered: u32,
    /// The batch, still packed; or what is wrong with it and as much as could be read.
    pub packed: Result<PackedBatch, Damage>,
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
    /// PackedBatch bytes of the batch, as it was admitted.
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
    /// PackedBatch bytes in them.
    pub bytes: u64,
    /// Age of the oldest, in milliseconds on the stream's clock; 0 when nothing waits.
    pub oldest_age_ms: u64,
}
