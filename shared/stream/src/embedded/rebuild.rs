//! Giving a stream whose counters are not trusted new counters and an epoch.

use rusqlite::OptionalExtension;

use super::books::Project;
use super::position::Position;
use super::writer::Turn;
use crate::{EntryId, Epoch, PendingBatch, ProjectCounters};

/// What the stream must hold for a rebuild to fit, and what it comes to.
pub(super) struct Contents {
    entries: u64,
    events: u64,
    bytes: u64,
    ends: Option<(EntryId, EntryId)>,
}

impl Contents {
    /// Of a list of pending batches.
    pub(super) fn of(pending: &[PendingBatch]) -> Self {
        Self {
            entries: pending.len() as u64,
            events: pending.iter().map(|batch| u64::from(batch.count)).sum(),
            bytes: pending.iter().map(|batch| u64::from(batch.bytes)).sum(),
            ends: pending.first().zip(pending.last()).map(|(first, last)| (first.id, last.id)),
        }
    }
}

/// Keeps everybody out until [`rebuild`] is called with this epoch.
pub(super) fn fence(turn: &mut Turn<'_>, epoch: Epoch) {
    turn.books.shard.epoch = None;
    turn.books.shard.fence = Some(epoch);
}

/// Replaces all counters, if the fence is this one and the contents are as expected.
pub(super) fn rebuild(
    turn: &mut Turn<'_>,
    epoch: Epoch,
    counters: &[ProjectCounters],
    expected: &Contents,
) -> rusqlite::Result<bool> {
    let entries: u64 = turn.file.query_row("SELECT count(*) FROM entries", [], |row| row.get(0))?;
    let fits =
        turn.books.shard.fence == Some(epoch) && entries == expected.entries && ends(turn)? == expected.ends;
    if !fits {
        return Ok(false);
    }
    let now_us = turn.books.shard.now_us();
    turn.books.delete_projects(turn.file)?;
    for given in counters {
        let ProjectCounters { project, accepted, pending, month, used } = *given;
        turn.books.set_project(project, Project { tat_us: now_us, month, used, accepted, pending });
    }
    turn.file.execute("UPDATE entries SET attempts = 0 WHERE attempts > 0", [])?;
    let shard = &mut turn.books.shard;
    shard.last = shard.last.max(Position::at_ms(now_us / 1_000));
    (shard.entries, shard.events, shard.bytes) = (expected.entries, expected.events, expected.bytes);
    (shard.epoch, shard.fence) = (Some(epoch), None);
    Ok(true)
}

fn ends(turn: &Turn<'_>) -> rusqlite::Result<Option<(EntryId, EntryId)>> {
    let end = |order: &str| {
        let select = format!("SELECT position FROM entries ORDER BY position {order} LIMIT 1");
        turn.file.query_row(&select, [], |row| row.get::<_, Position>(0)).optional()
    };
    Ok(end("ASC")?.zip(end("DESC")?).map(|(first, last)| (first.id(), last.id())))
}
