//! What the store records of a stream that can go back in time: how far its entries were written, and which
//! acknowledged batches it lost.

use millrace_event::plan::ProjectId;
use millrace_event::{EntryId, Epoch};
use time::OffsetDateTime;

/// What is on record about one shard of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamRecord {
    /// The epoch that the shard must have.
    pub epoch: Option<Epoch>,
    /// The highest entry that was written. A stream that stands lower has lost entries.
    pub position: EntryId,
}

/// Lost batches of one project, received within one hour (UTC).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostHour {
    pub project: ProjectId,
    /// The start of the hour.
    pub hour: OffsetDateTime,
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// An operator has seen them.
    pub reviewed: bool,
}
