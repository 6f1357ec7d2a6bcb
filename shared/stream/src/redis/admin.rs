//! Reads of a shard for operators, audits and upkeep.

use redis::Value;
use uuid::Uuid;

use super::core::Core;
use super::{reply, scripts};
use crate::{Backlog, Epoch, PendingBatch, ProjectCounters, StreamError};
use millrace_event::plan::ProjectId;

/// Entries listed by one call.
const PAGE_ENTRIES: usize = 500;

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
            pending.push(reply::pending_batch(row)?);
        }
        if !full {
            return Ok(pending);
        }
    }
}

pub(super) async fn counters(
    core: &Core,
    projects: &[ProjectId],
) -> Result<Vec<ProjectCounters>, StreamError> {
    let mut counters = Vec::with_capacity(projects.len());
    for &project in projects {
        let shard = project.shard(core.shard_count);
        let keys = core.keys(shard)?;
        let mut command = redis::cmd("HMGET");
        command.arg(keys.project(project)).arg(&["accepted", "pending", "month", "used"]);
        let [accepted, pending, month, used] = reply::tuple(core.link(shard).ask(&command).await?)?;
        counters.push(ProjectCounters {
            project,
            accepted: reply::unsigned(accepted)?,
            pending: reply::integer(pending)?,
            month: reply::small(month)?,
            used: reply::unsigned(used)?,
        });
    }
    Ok(counters)
}
