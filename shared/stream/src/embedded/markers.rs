//! The markers in the file: of batches with a key, and of others that have no room in memory
//! ([`super::memory_markers`]). A marker is kept while its batch is pending, and afterwards for as long as a
//! client may repeat the request or ask for the outcome.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension};

use super::memory_markers::MemoryMarker;
use crate::{BatchId, BatchState, Outcome};
use millrace_event::plan::ProjectId;

// As in settle.lua.
const KEEP_KEYED_MS: u64 = 86_400_000;
const KEEP_AWAITED_MS: u64 = 60_000;
const KEEP_MS: u64 = 15_000;

pub(super) struct Marker {
    pub(super) received_ms: u64,
    pub(super) digest: Option<[u8; 16]>,
}

/// How long a marker is kept after the batch was settled.
pub(super) fn keep_ms(has_key: bool, awaited: bool) -> u64 {
    match (has_key, awaited) {
        (true, _) => KEEP_KEYED_MS,
        (false, true) => KEEP_AWAITED_MS,
        (false, false) => KEEP_MS,
    }
}

/// The marker of a batch id. A marker that has expired is deleted and not returned.
pub(super) fn find(
    connection: &Connection,
    batch_id: BatchId,
    now_ms: u64,
) -> rusqlite::Result<Option<Marker>> {
    let mut select = connection
        .prepare_cached("SELECT received_ms, digest, expires_ms FROM markers WHERE batch_id = ?1")?;
    let found = select.query_row([batch_id.as_bytes()], |row| {
        let marker = Marker { received_ms: row.get(0)?, digest: row.get(1)? };
        Ok((marker, row.get::<_, Option<u64>>(2)?))
    });
    match found.optional()? {
        Some((_, Some(expires_ms))) if expires_ms <= now_ms => {
            let mut delete = connection.prepare_cached("DELETE FROM markers WHERE batch_id = ?1")?;
            delete.execute([batch_id.as_bytes()])?;
            Ok(None)
        }
        found => Ok(found.map(|(marker, _)| marker)),
    }
}

/// Adds the marker of a batch that is admitted.
pub(super) fn insert(
    connection: &Connection,
    batch_id: BatchId,
    marker: &MemoryMarker,
    digest: Option<[u8; 16]>,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO markers (batch_id, project, count, received_ms, keep_ms, digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let MemoryMarker { project, count, received_ms, keep_ms } = *marker;
    insert.execute((batch_id.as_bytes(), project.0, count, received_ms, keep_ms, digest)).map(drop)
}

/// The batches that are pending and have a marker in the file.
pub(super) fn pending(connection: &Connection) -> rusqlite::Result<HashSet<BatchId>> {
    let mut select = connection.prepare("SELECT batch_id FROM markers WHERE expires_ms IS NULL")?;
    let ids = select.query_map([], |row| row.get(0).map(BatchId::from_bytes))?;
    ids.collect()
}

/// Adds the outcome to a marker, and lets it expire.
pub(super) fn settle(
    connection: &Connection,
    batch_id: BatchId,
    outcome: Outcome,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE markers SET expires_ms = ?2 + keep_ms, stored = ?3, duplicate = ?4, dead = ?5, conflict = ?6
         WHERE batch_id = ?1",
    )?;
    let Outcome { stored, duplicate, dead, conflict } = outcome;
    update.execute((batch_id.as_bytes(), now_ms, stored, duplicate, dead, conflict)).map(drop)
}

/// Deletes markers that have expired, at most `markers_max`. Returns how many.
pub(super) fn expire(connection: &Connection, now_ms: u64, markers_max: usize) -> rusqlite::Result<usize> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM markers WHERE batch_id IN
            (SELECT batch_id FROM markers WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2)",
    )?;
    delete.execute((now_ms, markers_max))
}

/// Whether any marker expires before this time.
pub(super) fn any_expires_before(connection: &Connection, ms: u64) -> rusqlite::Result<bool> {
    let mut select =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM markers WHERE expires_ms < ?1)")?;
    select.query_row([ms], |row| row.get(0))
}

pub(super) fn batch_state(
    connection: &Connection,
    batch_id: BatchId,
    now_ms: u64,
) -> rusqlite::Result<BatchState> {
    let mut select = connection.prepare_cached(
        "SELECT project, count, stored, duplicate, dead, coalesce(conflict, 0) FROM markers
         WHERE batch_id = ?1 AND (expires_ms IS NULL OR expires_ms > ?2)",
    )?;
    let state = select.query_row((batch_id.as_bytes(), now_ms), |row| {
        let project = ProjectId(row.get(0)?);
        Ok(match row.get(2)? {
            None => BatchState::Pending { project, count: row.get(1)? },
            Some(stored) => {
                let (duplicate, dead, conflict) = (row.get(3)?, row.get(4)?, row.get(5)?);
                let outcome = Outcome { stored, duplicate, dead, conflict };
                BatchState::Settled { project, outcome }
            }
        })
    });
    state.optional().map(|state| state.unwrap_or(BatchState::Unknown))
}
