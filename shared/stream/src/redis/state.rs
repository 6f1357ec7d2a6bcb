//! Looks up the state of a batch and the limit state of a project.

use redis::Value;

use super::core::Core;
use super::reply;
use crate::metrics::counted;
use crate::{BatchId, BatchState, Outcome, StreamError};
use millrace_event::plan::{LimitState, ProjectId};

pub(super) async fn limit_state(core: &Core, project: ProjectId) -> Result<LimitState, StreamError> {
    let shard = project.shard(core.shard_count);
    let keys = core.keys(shard)?;
    let script = &core.scripts.limit_state;
    let mut command = script.call(2);
    command.arg(&keys.shard_hash).arg(keys.project(project));
    let [now_us, tat_us, used] = reply::tuple(core.link(shard).connections.eval(script, &command).await?)?;
    reply::limit_state(now_us, tat_us, used)
}

pub(super) async fn batch_state(
    core: &Core,
    project: ProjectId,
    batch_id: BatchId,
) -> Result<BatchState, StreamError> {
    let shard = project.shard(core.shard_count);
    let keys = core.keys(shard)?;
    let mut command = redis::cmd("GET");
    command.arg(keys.marker(batch_id));
    match core.link(shard).connections.send(&command).await.map_err(counted)? {
        Value::Nil => Ok(BatchState::Unknown),
        marker => {
            let marker = reply::text(marker)?;
            parse_marker(&marker)
                .ok_or_else(|| counted(StreamError::Refused(format!("marker {marker:?} is malformed"))))
        }
    }
}

/// `p flags project count received_ms digest`, or `s` with the same fields followed by `stored duplicate dead
/// conflict`. Workers of the release before write no `conflict`.
fn parse_marker(marker: &str) -> Option<BatchState> {
    let words: Vec<&str> = marker.split(' ').collect();
    let project = ProjectId(words.get(2)?.parse().ok()?);
    let number = |at: usize| words.get(at)?.parse::<u32>().ok();
    match words[0] {
        "p" => Some(BatchState::Pending { project, count: number(3)? }),
        "s" => {
            let (stored, duplicate, dead) = (number(6)?, number(7)?, number(8)?);
            let outcome = Outcome { stored, duplicate, dead, conflict: number(9).unwrap_or(0) };
            Some(BatchState::Settled { project, outcome })
        }
        _ => None,
    }
}
