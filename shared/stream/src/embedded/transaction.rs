//! One write transaction, as the requests in it see it.

use rusqlite::Connection;

use super::counters::Counters;
use super::position::Position;
use millrace_event::entry::PackedBatch;

pub(super) struct WriteTransaction<'a> {
    pub(super) file: &'a Connection,
    pub(super) counters: &'a mut Counters,
    /// Entries that this transaction appends, in order.
    pub(super) appended: Vec<(Position, PackedBatch)>,
    /// Entries that this transaction removes.
    pub(super) settled: Vec<Position>,
}
