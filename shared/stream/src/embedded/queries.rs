//! Reads of the file. Each function runs in one read transaction.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};

use super::counters::{ProjectRow, ShardRow};
use super::markers;
use super::position::Position;
use crate::{Backlog, BatchId, BatchState, EntryId, Epoch, PendingBatch, ProjectCounters};
use millrace_event::entry::PackedBatch;
use millrace_event::plan::{LimitState, ProjectId};

/// Entries after this one, oldest first.
pub(super) fn entries_after(
    file: &Connection,
    after: Position,
    entries_max: usize,
) -> rusqlite::Result<Vec<(Position, PackedBatch)>> {
    let mut select = file.prepare_cached(
        "SELECT position, batch_id, project, count, rows_bytes, data FROM entries
         WHERE position > ?1 ORDER BY position LIMIT ?2",
    )?;
    select.query_map((after, entries_max), entry)?.collect()
}

/// The entry at this position. `None` when it was removed.
pub(super) fn entry_at(file: &Connection, position: Position) -> rusqlite::Result<Option<PackedBatch>> {
    let mut select = file.prepare_cached(
        "SELECT position, batch_id, project, count, rows_bytes, data FROM entries WHERE position = ?1",
    )?;
    Ok(select.query_row([position], entry).optional()?.map(|(_, packed)| packed))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<(Position, PackedBatch)> {
    let packed = PackedBatch {
        batch_id: BatchId::from_bytes(row.get(1)?),
        project: ProjectId(row.get(2)?),
        count: row.get(3)?,
        rows_bytes: row.get(4)?,
        data: Bytes::from(row.get::<_, Vec<u8>>(5)?),
    };
    Ok((row.get(0)?, packed))
}

pub(super) fn pending_batches(file: &Connection) -> rusqlite::Result<Vec<PendingBatch>> {
    let mut select = file.prepare_cached(
        "SELECT position, batch_id, project, count, length(data) FROM entries ORDER BY position",
    )?;
    let batches = select.query_map([], |row| {
        Ok(PendingBatch {
            id: row.get::<_, Position>(0)?.id(),
            batch_id: BatchId::from_bytes(row.get(1)?),
            project: ProjectId(row.get(2)?),
            count: row.get(3)?,
            bytes: row.get(4)?,
        })
    })?;
    batches.collect()
}

pub(super) fn backlog(file: &Connection) -> rusqlite::Result<Backlog> {
    let shard = ShardRow::read(file)?;
    let mut select = file.prepare_cached("SELECT position FROM entries ORDER BY position LIMIT 1")?;
    let oldest: Option<Position> = select.query_row([], |row| row.get(0)).optional()?;
    let age_ms = |oldest: Position| (shard.now_us() / 1_000).saturating_sub(oldest.ms());
    Ok(Backlog {
        entries: shard.entries,
        events: shard.events,
        bytes: shard.bytes,
        oldest_age_ms: oldest.map_or(0, age_ms),
    })
}

pub(super) fn batch_state(file: &Connection, batch_id: BatchId) -> rusqlite::Result<BatchState> {
    markers::batch_state(file, batch_id, ShardRow::read(file)?.now_us() / 1_000)
}

pub(super) fn limit_state(file: &Connection, project: ProjectId) -> rusqlite::Result<LimitState> {
    Ok(ProjectRow::read(file, project)?.limit_state(ShardRow::read(file)?.now_us()))
}

pub(super) fn epoch(file: &Connection) -> rusqlite::Result<Option<Epoch>> {
    Ok(ShardRow::read(file)?.epoch)
}

pub(super) fn epoch_and_position(file: &Connection) -> rusqlite::Result<(Option<Epoch>, EntryId)> {
    let shard = ShardRow::read(file)?;
    Ok((shard.epoch, shard.last.id()))
}

pub(super) fn counters(file: &Connection, projects: &[ProjectId]) -> rusqlite::Result<Vec<ProjectCounters>> {
    let counters = projects.iter().map(|&project| {
        let ProjectRow { month, used, accepted, pending, .. } = ProjectRow::read(file, project)?;
        Ok(ProjectCounters { project, accepted, pending, month, used })
    });
    counters.collect()
}
