//! Removes committed entries from the file, and counts the attempts at suspects.

use rusqlite::{Connection, OptionalExtension};

use super::position::Position;
use super::transaction::WriteTransaction;
use super::{limits, markers};
use crate::{Epoch, SettledBatch, Settlement};
use millrace_event::plan::month_of;

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
    let (mut settled, mut batches) = (0, 0);
    for settlement in settlements {
        let Some(position) = Position::of(settlement.id) else { continue };
        let Some(bytes) = remove(file, position)? else { continue };
        let shard = &mut transaction.counters.shard;
        shard.entries = shard.entries.saturating_sub(1);
        shard.bytes = shard.bytes.saturating_sub(bytes);
        for batch in &settlement.batches {
            settle_batch(transaction, position, batch, now_ms)?;
        }
        for (batch, refund) in &settlement.refunds {
            limits::refund(file, settlement.batches[*batch].project, refund, position)?;
        }
        transaction.settled.push(position);
        settled += 1;
        batches += settlement.batches.len();
    }
    // Up to twice as many as were settled: expired markers cannot accumulate, and the transaction stays
    // short.
    markers::expire(file, now_ms, 2 * batches)?;
    Ok(Some(settled))
}

fn settle_batch(
    transaction: &mut WriteTransaction<'_>,
    position: Position,
    batch: &SettledBatch,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let SettledBatch { batch_id, project: id, count, outcome } = *batch;
    let file = transaction.file;
    let mut project = transaction.counters.project(file, id)?;
    project.pending -= i64::from(count);
    if project.month == month_of(position.ms() * 1_000) {
        let refund = u64::from(outcome.duplicate) + u64::from(outcome.dead);
        project.used = project.used.saturating_sub(refund);
    }
    transaction.counters.set_project(id, project);
    let shard = &mut transaction.counters.shard;
    shard.events = shard.events.saturating_sub(count.into());
    if !transaction.markers.settle(batch_id, outcome) {
        markers::settle(file, batch_id, outcome, now_ms)?;
    }
    Ok(())
}

/// Returns the compressed size of the entry; `None` when it is not in the file.
fn remove(file: &Connection, position: Position) -> rusqlite::Result<Option<u64>> {
    let mut delete = file.prepare_cached("DELETE FROM entries WHERE position = ?1 RETURNING length(data)")?;
    delete.query_row([position], |row| row.get(0)).optional()
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
