//! Deliveries from the stream to a worker's lane, and the settlements that the lane returns.

use millrace_event::entry::{Damage, PackedBatch};
use millrace_event::plan::ProjectId;
use millrace_event::{BatchId, EntryId, Outcome};

/// One entry delivered to a consumer. It is pending for that consumer until it is settled.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: EntryId,
    /// How often the entry was delivered, this delivery included (1 = first). Exact only after a take-over.
    pub delivered: u32,
    /// The batch, or the damage of the entry with the fields that could be read.
    pub packed: Result<PackedBatch, Damage>,
}

/// The result of [`crate::Reader::take_over`].
#[derive(Clone, Debug, Default)]
pub struct TakeOver {
    /// Entries that are now pending for the calling consumer.
    pub deliveries: Vec<Delivery>,
    /// Entries that were pending but are no longer in the stream, because another program trimmed or deleted
    /// them. Each is a lost batch: count it and raise an alarm.
    pub vanished: Vec<EntryId>,
}

/// A batch that is committed in the store, to be removed from the stream.
///
/// For an entry that was too damaged to name its batch or project, the fields are those under which the store
/// keeps its dead letter. No marker has such an id. Redis then counts `count` events as accepted and charges
/// `outcome.stored` of them, because an entry without a marker was appended without admission.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settlement {
    pub id: EntryId,
    /// The batch, or [`millrace_event::entry::id_of_damaged`] when the entry names none.
    pub batch_id: BatchId,
    /// The project, or `ProjectId(0)` when the entry names none.
    pub project: ProjectId,
    /// Events in the batch, as it was admitted.
    pub count: u32,
    /// Bytes of the packed batch, as it was admitted.
    pub bytes: u32,
    /// The outcome in the store. Duplicates and dead letters are refunded.
    pub outcome: Outcome,
}

/// The batches that are not stored yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backlog {
    pub entries: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes of their packed rows.
    pub bytes: u64,
    /// Age of the oldest batch, in milliseconds on the stream's clock; 0 when there is none.
    pub oldest_age_ms: u64,
}
