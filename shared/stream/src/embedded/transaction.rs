//! One write transaction, as the requests in it see it.

use rusqlite::Connection;

use super::counters::Counters;
use super::group::Group;
use super::memory_markers::MarkerChanges;
use super::position::Position;
use millrace_event::entry::PackedEntry;

pub(super) struct WriteTransaction<'a> {
    pub(super) file: &'a Connection,
    pub(super) counters: &'a mut Counters,
    /// Admitted batches that are not in the file yet.
    pub(super) group: Option<Group>,
    pub(super) markers: MarkerChanges<'a>,
    /// Entries that this transaction appends, in order.
    pub(super) appended: Vec<(Position, PackedEntry)>,
    /// Entries that this transaction removes.
    pub(super) settled: Vec<Position>,
}

impl WriteTransaction<'_> {
    /// Appends the entry of the batches that were admitted until now. Call it before the entries of the
    /// file are counted, and last.
    pub(super) fn append_group(&mut self) -> rusqlite::Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let position = group.position;
        let entry = group.into_entry();
        let mut insert = self.file.prepare_cached(
            "INSERT INTO entries (position, batch_id, project, count, rows_bytes, attempts, batches, data, charges)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8)",
        )?;
        let first = entry.batches.first().expect("a group has a batch");
        let (batch_id, project, count) = (first.batch_id.as_bytes(), first.project.0, entry.events());
        let rows_bytes: u64 = entry.batches.iter().map(|batch| u64::from(batch.rows_bytes)).sum();
        let (table, charges) = (entry.table(), entry.charges_field());
        insert.execute((position, batch_id, project, count, rows_bytes, table, &entry.data[..], charges))?;
        self.counters.shard.bytes += entry.data.len() as u64;
        self.appended.push((position, entry));
        Ok(())
    }
}
