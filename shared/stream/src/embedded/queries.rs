//! Reads of the file. Each function runs in one read transaction.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};

use super::counters::{ProjectRow, ShardRow};
use super::limits;
use super::markers;
use super::memory_markers::MemoryMarkers;
use super::position::Position;
use crate::{Backlog, BatchId, BatchState, EntryId, Epoch, PendingBatch, ProjectCounters};
use millrace_event::entry::{Damage, EntryBatch, PackedEntry, batches_of_table};
use millrace_event::limit::{Amount, Charge, Counter, decode_charges};
use millrace_event::plan::{LimitState, ProjectId};

/// The columns from which [`entry`] reads an entry.
const ENTRY: &str = "position, batch_id, project, count, rows_bytes, batches, data, charges";

/// An entry that was read.
pub(super) type StoredEntry = (Position, Result<PackedEntry, Damage>);

/// Entries after this one, oldest first.
pub(super) fn entries_after(
    file: &Connection,
    after: Position,
    entries_max: usize,
) -> rusqlite::Result<Vec<StoredEntry>> {
    let select = format!("SELECT {ENTRY} FROM entries WHERE position > ?1 ORDER BY position LIMIT ?2");
    file.prepare_cached(&select)?.query_map((after, entries_max), entry)?.collect()
}

/// The entry at this position. `None` when it was removed.
pub(super) fn entry_at(
    file: &Connection,
    position: Position,
) -> rusqlite::Result<Option<Result<PackedEntry, Damage>>> {
    let select = format!("SELECT {ENTRY} FROM entries WHERE position = ?1");
    let found = file.prepare_cached(&select)?.query_row([position], entry).optional()?;
    Ok(found.map(|(_, entry)| entry))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<StoredEntry> {
    let (batches, data) = (batches(row)?, Bytes::from(row.get::<_, Vec<u8>>(6)?));
    let charges: Option<Vec<u8>> = row.get(7)?;
    let with_charges = |batches: Vec<EntryBatch>| {
        let charges = charges.map_or(Ok(Vec::new()), |charges| decode_charges(&charges, batches.len()))?;
        Ok::<_, String>(PackedEntry { batches, data: data.clone(), charges })
    };
    let entry = match batches.and_then(with_charges) {
        Ok(entry) => Ok(entry),
        Err(reason) => Err(Damage { reason, batch_id: None, project: None, count: None, raw: data }),
    };
    Ok((row.get(0)?, entry))
}

/// The batches of an entry, from columns 1 to 5 of [`ENTRY`]. An entry of the release before is one batch.
///
/// # Errors
/// What is wrong with them, for operators.
pub(super) fn batches(row: &Row<'_>) -> rusqlite::Result<Result<Vec<EntryBatch>, String>> {
    if let Some(table) = row.get::<_, Option<Vec<u8>>>(5)? {
        // A batch that was not admitted is not in the file.
        return Ok(batches_of_table(&table, None));
    }
    Ok(Ok(vec![EntryBatch {
        batch_id: BatchId::from_bytes(row.get(1)?),
        project: ProjectId(row.get(2)?),
        count: row.get(3)?,
        rows_bytes: row.get(4)?,
        is_admitted: true,
    }]))
}

pub(super) fn pending_batches(file: &Connection) -> rusqlite::Result<Vec<PendingBatch>> {
    let mut select = file.prepare_cached(
        "SELECT position, batch_id, project, count, rows_bytes, batches, length(data) FROM entries ORDER BY position",
    )?;
    let mut rows = select.query([])?;
    let mut pending = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, bytes) = (row.get::<_, Position>(0)?.id(), row.get(6)?);
        match batches(row)? {
            Ok(batches) => pending.extend(PendingBatch::of_entry(id, &batches, bytes)),
            Err(_) => pending.push(PendingBatch {
                id,
                batch_id: BatchId::nil(),
                project: ProjectId(0),
                count: 0,
                bytes,
            }),
        }
    }
    Ok(pending)
}

/// What the pending batches took of limits. An entry that is damaged took nothing that could be given back.
pub(super) fn pending_charges(file: &Connection) -> rusqlite::Result<Vec<(PendingBatch, Vec<Charge>)>> {
    let mut select = file.prepare_cached(
        "SELECT position, batch_id, project, count, rows_bytes, batches, length(data), charges
           FROM entries WHERE charges IS NOT NULL ORDER BY position",
    )?;
    let mut rows = select.query([])?;
    let mut charged = Vec::new();
    while let Some(row) = rows.next()? {
        let Ok(batches) = batches(row)? else { continue };
        let charges = decode_charges(&row.get::<_, Vec<u8>>(7)?, batches.len()).unwrap_or_default();
        let id = row.get::<_, Position>(0)?.id();
        let pending = PendingBatch::of_entry(id, &batches, row.get(6)?);
        charged.extend(pending.into_iter().zip(charges).filter(|(_, charges)| !charges.is_empty()));
    }
    Ok(charged)
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

pub(super) fn batch_state(
    file: &Connection,
    in_memory: &MemoryMarkers,
    batch_id: BatchId,
) -> rusqlite::Result<BatchState> {
    let now_ms = ShardRow::read(file)?.now_us() / 1_000;
    match in_memory.state(batch_id, now_ms) {
        Some(state) => Ok(state),
        None => markers::batch_state(file, batch_id, now_ms),
    }
}

pub(super) fn limit_state(file: &Connection, project: ProjectId) -> rusqlite::Result<LimitState> {
    Ok(ProjectRow::read(file, project)?.limit_state(ShardRow::read(file)?.now_us()))
}

pub(super) fn limits_used(
    file: &Connection,
    project: ProjectId,
    counters: &[Counter],
) -> rusqlite::Result<(u64, Vec<Amount>)> {
    let now_us = ShardRow::read(file)?.now_us();
    if !limits::exists(file)? {
        return Ok((now_us, vec![Amount::ZERO; counters.len()]));
    }
    let used = counters.iter().map(|counter| limits::used_at(file, project, counter, now_us));
    Ok((now_us, used.collect::<Result<_, _>>()?))
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
