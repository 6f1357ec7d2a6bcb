//! Looks up the state of a batch and the limit state of a project.

use super::core::Core;
use super::marker::MarkerPlace;
use super::reply;
use crate::metrics::counted;
use crate::{BatchId, BatchState, StreamError};
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
    let place = MarkerPlace::of(batch_id);
    let mut command = redis::cmd("GET");
    command.arg(keys.markers(place.string));
    let value = core.link(shard).connections.send(&command).await.map_err(counted)?;
    Ok(place.read(value).map_err(counted)?.unwrap_or(BatchState::Unknown))
}
