//! The figures that the stream and the store exchange about batches: outcomes, pending batches, counters, epochs.

use uuid::Uuid;

use crate::entry::EntryId;
use crate::event::BatchId;
use crate::plan::ProjectId;

/// A stream's life. A stream that has lost its memory has another epoch, or none.
pub type Epoch = Uuid;

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

/// What the stream holds of one project, for audits and for rebuilding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProjectCounters {
    /// The project.
    pub project: ProjectId,
    /// Events ever admitted.
    pub accepted: u64,
    /// Of these, not settled yet.
    pub pending: i64,
    /// The month that `used` belongs to, as [`millrace_event::plan::month_of`] writes it.
    pub month: u32,
    /// Events charged to that month, refunds taken off.
    pub used: u64,
}
