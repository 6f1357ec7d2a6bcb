//! Removes committed entries from the file, and counts the attempts at suspects.

use rusqlite::{Connection, OptionalExtension};

use super::markers;
use super::position::Position;
use super::transaction::WriteTransaction;
use crate::{BatchId, Epoch, Settlement};
use millrace_event::plan::{ProjectId, month_of};

/// The counted columns of an entry that was removed.
struct RemovedEntry {
    batch_id: BatchId,
    project: ProjectId,
    count: u32,
    bytes: u64,
}

/// Removes the entries that are still in the file, and refunds their duplicates and dead events. An entry is
/// refunded once, because only the call that removes it refunds it. Returns the number of removed entries;
/// `None` when the epoch is not the trusted one.
pub(super) fn settle(
    transaction: &mut WriteTransaction<'_>,
    settlements: &[Settlement],
    trusted: Option<Epoch>,
) -> rusqlite::Result<Option<u64>> {
    if trusted.is_none() || transaction.counters.shard.epoch != trusted {
        return Ok(None);
    }
    let file = transaction.file;
    let now_ms = transaction.counters.shard.now_us() / 1_000;
    let mut settled = 0;
    for settlement in settlements {
        let Some(position) = Position::of(settlement.id) else { continue };
        let Some(removed) = remove(file, position)? else { continue };
        let outcome = settlement.outcome;
        let mut project = transaction.counters.project(file, removed.project)?;
        project.pending -= i64::from(removed.count);
        if project.month == month_of(position.ms() * 1_000) {
            let refund = u64::from(outcome.duplicate) + u64::from(outcome.dead);
            project.used = project.used.saturating_sub(refund);
        }
        transaction.counters.set_project(removed.project, project);
        let shard = &mut transaction.counters.shard;
        shard.entries = shard.entries.saturating_sub(1);
        shard.events = shard.events.saturating_sub(removed.count.into());
        shard.bytes = shard.bytes.saturating_sub(removed.bytes);
        markers::settle(file, removed.batch_id, outcome, now_ms)?;
        transaction.settled.push(position);
        settled += 1;
    }
    // Up to twice as many as were settled: expired markers cannot accumulate, and the transaction stays
    // short.
    markers::expire(file, now_ms, 2 * settlements.len())?;
    Ok(Some(settled))
}

fn remove(file: &Connection, position: Position) -> rusqlite::Result<Option<RemovedEntry>> {
    let mut delete = file.prepare_cached(
        "DELETE FROM entries WHERE position = ?1 RETURNING batch_id, project, count, length(data)",
    )?;
    let removed = delete.query_row([position], |row| {
        Ok(RemovedEntry {
            batch_id: BatchId::from_bytes(row.get(0)?),
            project: ProjectId(row.get(1)?),
            count: row.get(2)?,
            bytes: row.get(3)?,
        })
    });
    removed.optional()
}

/// Returns the number of attempts. It is 1 for an entry that is no longer in the file.
pub(super) fn note_attempt(file: &Connection, position: Position) -> rusqlite::Result<u32> {
    let mut update = file.prepare_cached(
        "UPDATE entries SET attempts = attempts + 1 WHERE position = ?1 RETURNING attempts",
    )?;
    let attempts = update.query_row([position], |row| row.get(0)).optional()?;
    Ok(attempts.unwrap_or(1))
}

pub(super) fn forget_attempts(file: &Connection, position: Position) -> rusqlite::Result<()> {
    let mut update =
        file.prepare_cached("UPDATE entries SET attempts = 0 WHERE position = ?1 AND attempts > 0")?;
    update.execute([position]).map(drop)
}
