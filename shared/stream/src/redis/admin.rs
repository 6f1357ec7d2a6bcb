//! Reads of a shard for operators, audits and upkeep.

use redis::Value;
use uuid::Uuid;

use super::core::Core;
use super::{reply, scripts};
use crate::{Backlog, Epoch, PendingBatch, ProjectCounters, StreamError};
use millrace_event::plan::ProjectId;

/// Entries listed by one call.
const PAGE_ENTRIES: usize = 500;
/// Projects whose counters are read by one call: about five milliseconds of the server.
const COUNTERS_PROJECTS: usize = 1_000;

pub(super) async fn backlog(core: &Core) -> Result<Backlog, StreamError> {
    let mut backlog = Backlog::default();
    for shard in 0..core.shard_count {
        let keys = core.keys(shard)?;
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::BACKLOG).arg(2).arg(&keys.events).arg(&keys.shard_hash);
        let [entries, events, bytes, age_ms] = reply::tuple(core.link(shard).ask(&command).await?)?;
        backlog.entries += reply::unsigned(entries)?;
        backlog.events += reply::unsigned(events)?;
        backlog.bytes += reply::unsigned(bytes)?;
        backlog.oldest_age_ms = backlog.oldest_age_ms.max(reply::unsigned(age_ms)?);
    }
    Ok(backlog)
}

pub(super) async fn epoch(core: &Core, shard: u16) -> Result<Option<Epoch>, StreamError> {
    let mut command = redis::cmd("GET");
    command.arg(&core.keys(shard)?.epoch);
    match core.link(shard).ask(&command).await? {
        Value::Nil => Ok(None),
        // A fence is not a UUID.
        epoch => Ok(Uuid::try_parse(&reply::text(epoch)?).ok()),
    }
}

pub(super) async fn pending_batches(core: &Core, shard: u16) -> Result<Vec<PendingBatch>, StreamError> {
    let keys = core.keys(shard)?;
    let mut pending: Vec<PendingBatch> = Vec::new();
    loop {
        let from = pending.last().map_or_else(|| "-".to_owned(), |batch| format!("({}", batch.id));
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::PENDING).arg(1).arg(&keys.events).arg(from).arg(PAGE_ENTRIES);
        let page = reply::array(core.link(shard).ask(&command).await?)?;
        let full = page.len() == PAGE_ENTRIES;
        for row in page {
            pending.extend(reply::pending_batches(row)?);
        }
        if !full {
            return Ok(pending);
        }
    }
}

/// One call for many projects of a shard, but not for all: the server does nothing else meanwhile.
pub(super) async fn counters(
    core: &Core,
    projects: &[ProjectId],
) -> Result<Vec<ProjectCounters>, StreamError> {
    let mut of_shards: Vec<Vec<usize>> = vec![Vec::new(); usize::from(core.shard_count)];
    for (at, project) in projects.iter().enumerate() {
        of_shards[usize::from(project.shard(core.shard_count))].push(at);
    }
    let mut counters: Vec<Option<ProjectCounters>> = vec![None; projects.len()];
    for (shard, places) in (0..core.shard_count).zip(&of_shards) {
        let keys = core.keys(shard)?;
        for places in places.chunks(COUNTERS_PROJECTS) {
            let mut command = redis::cmd("EVAL");
            command.arg(scripts::COUNTERS).arg(places.len());
            for &at in places {
                command.arg(keys.project(projects[at]));
            }
            let rows = reply::array(core.link(shard).ask(&command).await?)?;
            for (&at, row) in places.iter().zip(rows) {
                counters[at] = Some(project_counters(projects[at], row)?);
            }
        }
    }
    let all: Option<Vec<_>> = counters.into_iter().collect();
    all.ok_or_else(|| StreamError::Refused("counters.lua answered for too few projects".to_owned()))
}

fn project_counters(project: ProjectId, row: Value) -> Result<ProjectCounters, StreamError> {
    let [accepted, pending, month, used] = reply::tuple(row)?;
    Ok(ProjectCounters {
        project,
        accepted: reply::unsigned(accepted)?,
        pending: reply::integer(pending)?,
        month: reply::small(month)?,
        used: reply::unsigned(used)?,
    })
}
