//! Taking committed entries out of the file, and the attempts at those that may bring a worker down.

use rusqlite::OptionalExtension;

use super::markers;
use super::position::Position;
use super::writer::Turn;
use crate::{BatchId, Epoch, Settlement};
use millrace_event::plan::{ProjectId, month_of};

/// What left the stream with its entry.
struct Left {
    batch_id: BatchId,
    project: ProjectId,
    count: u32,
    bytes: u64,
}

/// Removes the entries that still stand in the file and refunds what was charged for nothing: that an entry is there
/// decides, so each is refunded once. Returns how many; `None` when the epoch is not the one the caller trusts.
pub(super) fn settle(
    turn: &mut Turn<'_>,
    settlements: &[Settlement],
    trusted: Option<Epoch>,
) -> rusqlite::Result<Option<u64>> {
    if trusted.is_none() || turn.books.shard.epoch != trusted {
        return Ok(None);
    }
    let now_ms = turn.books.shard.now_us() / 1_000;
    let mut settled = 0;
    for settlement in settlements {
        let Some(position) = Position::of(settlement.id) else { continue };
        let Some(left) = remove(turn, position)? else { continue };
        let outcome = settlement.outcome;
        let mut project = turn.books.project(turn.file, left.project)?;
        project.pending -= i64::from(left.count);
        if project.month == month_of(position.ms() * 1_000) {
            let refund = u64::from(outcome.duplicate) + u64::from(outcome.dead);
            project.used = project.used.saturating_sub(refund);
        }
        turn.books.set_project(left.project, project);
        let shard = &mut turn.books.shard;
        shard.entries = shard.entries.saturating_sub(1);
        shard.events = shard.events.saturating_sub(left.count.into());
        shard.bytes = shard.bytes.saturating_sub(left.bytes);
        markers::settle(turn.file, left.batch_id, outcome, now_ms)?;
        turn.settled.push(position);
        settled += 1;
    }
    // Twice as many as may have been added: so they cannot pile up, and no transaction is long because of them.
    markers::expire(turn.file, now_ms, 2 * settlements.len())?;
    Ok(Some(settled))
}

fn remove(turn: &Turn<'_>, position: Position) -> rusqlite::Result<Option<Left>> {
    let mut delete = turn.file.prepare_cached(
        "DELETE FROM entries WHERE position = ?1 RETURNING batch_id, project, count, length(data)",
    )?;
    let left = delete.query_row([position], |row| {
        Ok(Left {
            batch_id: BatchId::from_bytes(row.get(0)?),
            project: ProjectId(row.get(1)?),
            count: row.get(2)?,
            bytes: row.get(3)?,
        })
    });
    left.optional()
}

/// Counts an attempt at an entry. One that is not there any more cannot bring anybody down: its count stays 1.
pub(super) fn note_attempt(turn: &Turn<'_>, position: Position) -> rusqlite::Result<u32> {
    let mut update = turn.file.prepare_cached(
        "UPDATE entries SET attempts = attempts + 1 WHERE position = ?1 RETURNING attempts",
    )?;
    let attempts = update.query_row([position], |row| row.get(0)).optional()?;
    Ok(attempts.unwrap_or(1))
}

/// Forgets the attempts at an entry.
pub(super) fn forget_attempts(turn: &Turn<'_>, position: Position) -> rusqlite::Result<()> {
    let mut update =
        turn.file.prepare_cached("UPDATE entries SET attempts = 0 WHERE position = ?1 AND attempts > 0")?;
    update.execute([position]).map(drop)
}
