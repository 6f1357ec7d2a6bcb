//! The figures about batches that the stream and the store exchange.

use uuid::Uuid;

use crate::entry::{EntryBatch, EntryId, size_shares};
use crate::event::BatchId;
use crate::plan::ProjectId;

/// The identity of a stream's data. A stream that has lost its data has another epoch, or none.
pub type Epoch = Uuid;

/// How the events of one batch ended. `stored + duplicate + dead` is the batch's count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Outcome {
    /// New rows in `events`.
    pub stored: u32,
    /// Events that were already stored.
    pub duplicate: u32,
    /// Events that could not be stored, now in `dead_letters`.
    pub dead: u32,
    /// The part of `duplicate` whose payload differs from that of the stored event.
    pub conflict: u32,
}

/// A batch that is in the stream and not settled, without its rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingBatch {
    pub id: EntryId,
    pub batch_id: BatchId,
    pub project: ProjectId,
    /// Events in the batch.
    pub count: u32,
    /// Its part of the compressed size of its entry: see [`crate::entry::size_shares`].
    pub bytes: u32,
}

impl PendingBatch {
    /// The admitted batches of an entry of this compressed size.
    pub fn of_entry(id: EntryId, batches: &[EntryBatch], packed_bytes: u32) -> Vec<Self> {
        let shares = size_shares(batches, packed_bytes);
        let admitted = batches.iter().filter(|batch| batch.is_admitted).zip(shares);
        let pending = |(batch, bytes): (&EntryBatch, u32)| {
            let EntryBatch { batch_id, project, count, .. } = *batch;
            Self { id, batch_id, project, count, bytes }
        };
        admitted.map(pending).collect()
    }
}

/// A batch that a process has acknowledged, without its rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcknowledgedBatch {
    /// Its entry. When another process admitted the batch, the sequence number is 0.
    pub id: EntryId,
    pub batch_id: BatchId,
    pub project: ProjectId,
    /// Events in the batch.
    pub count: u32,
}

/// The counters that the stream holds for one project, for audits and rebuilds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProjectCounters {
    pub project: ProjectId,
    /// Events ever admitted.
    pub accepted: u64,
    /// Admitted events that are not settled yet.
    pub pending: i64,
    /// The month that `used` belongs to, in the format of [`crate::plan::month_of`].
    pub month: u32,
    /// Events charged to that month, less refunds.
    pub used: u64,
}
