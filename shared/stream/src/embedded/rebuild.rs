//! New counters and a new epoch for a stream whose counters are not trusted.

use rusqlite::OptionalExtension;

use super::counters::ProjectRow;
use super::position::Position;
use super::transaction::WriteTransaction;
use crate::{EntryId, Epoch, PendingBatch, ProjectCounters};

/// Sums and ends of a list of pending batches.
pub(super) struct ContentSummary {
    entries: u64,
    events: u64,
    bytes: u64,
    /// The first and the last entry.
    ends: Option<(EntryId, EntryId)>,
}

impl ContentSummary {
    pub(super) fn of(pending: &[PendingBatch]) -> Self {
        Self {
            entries: pending.chunk_by(|one, next| one.id == next.id).count() as u64,
            events: pending.iter().map(|batch| u64::from(batch.count)).sum(),
            bytes: pending.iter().map(|batch| u64::from(batch.bytes)).sum(),
            ends: pending.first().zip(pending.last()).map(|(first, last)| (first.id, last.id)),
        }
    }
}

/// Stops admission and settling until [`rebuild`] is called with this epoch.
pub(super) fn fence(transaction: &mut WriteTransaction<'_>, epoch: Epoch) {
    transaction.counters.shard.epoch = None;
    transaction.counters.shard.fence = Some(epoch);
}

/// Replaces all counters, if the stream is fenced under this epoch and its entries are the expected ones. The
/// next entry is above `floor`.
pub(super) fn rebuild(
    transaction: &mut WriteTransaction<'_>,
    epoch: Epoch,
    counters: &[ProjectCounters],
    expected: &ContentSummary,
    floor: Position,
) -> rusqlite::Result<bool> {
    transaction.append_group()?;
    let file = transaction.file;
    let entries: u64 = file.query_row("SELECT count(*) FROM entries", [], |row| row.get(0))?;
    let matches = transaction.counters.shard.fence == Some(epoch)
        && entries == expected.entries
        && ends(transaction)? == expected.ends;
    if !matches {
        return Ok(false);
    }
    let now_us = transaction.counters.shard.now_us();
    transaction.counters.delete_projects(file)?;
    for given in counters {
        let ProjectCounters { project, accepted, pending, month, used } = *given;
        let row = ProjectRow { tat_us: now_us, month, used, accepted, pending };
        transaction.counters.set_project(project, row);
    }
    file.execute("UPDATE entries SET attempts = 0 WHERE attempts > 0", [])?;
    let shard = &mut transaction.counters.shard;
    shard.last = shard.last.max(Position::at_ms(now_us / 1_000)).max(floor.next());
    (shard.entries, shard.events, shard.bytes) = (expected.entries, expected.events, expected.bytes);
    (shard.epoch, shard.fence) = (Some(epoch), None);
    Ok(true)
}

fn ends(transaction: &WriteTransaction<'_>) -> rusqlite::Result<Option<(EntryId, EntryId)>> {
    let end = |order: &str| {
        let select = format!("SELECT position FROM entries ORDER BY position {order} LIMIT 1");
        transaction.file.query_row(&select, [], |row| row.get::<_, Position>(0)).optional()
    };
    Ok(end("ASC")?.zip(end("DESC")?).map(|(first, last)| (first.id(), last.id())))
}
