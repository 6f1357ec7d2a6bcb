//! The batches of one transaction that become one entry.

use super::position::Position;
use millrace_event::entry::{BATCHES_MAX, NewBatch, PackedEntry};

/// Events in a group, unless its only batch has more.
const EVENTS_MAX: u32 = 4_096;
/// Bytes of rows in a group, before compression, unless its only batch has more.
const ROWS_BYTES_MAX: usize = 1 << 20;

/// Admitted batches.
pub(super) struct Group {
    pub(super) position: Position,
    /// The time at which all of them are admitted, in microseconds since 1970. They are charged to its month,
    /// and refunded to the month of the entry.
    pub(super) now_us: u64,
    batches: Vec<NewBatch>,
    events: u32,
    rows_bytes: usize,
}

impl Group {
    pub(super) fn new(position: Position, now_us: u64) -> Self {
        Self { position, now_us, batches: Vec::new(), events: 0, rows_bytes: 0 }
    }

    /// Whether the batch can be added.
    pub(super) fn has_room_for(&self, batch: &NewBatch) -> bool {
        self.batches.len() < BATCHES_MAX
            && self.events.saturating_add(batch.count) <= EVENTS_MAX
            && self.rows_bytes + batch.rows_bytes() <= ROWS_BYTES_MAX
    }

    pub(super) fn add(&mut self, batch: NewBatch) {
        self.events = self.events.saturating_add(batch.count);
        self.rows_bytes += batch.rows_bytes();
        self.batches.push(batch);
    }

    pub(super) fn into_entry(self) -> PackedEntry {
        PackedEntry::pack(&self.batches)
    }
}
