//! Whether a batch could be admitted now: whether the user may run every command of the admission on the keys
//! of the shard, and whether the server takes writes.

use uuid::Uuid;

use super::core::Core;
use super::keys::MarkerString;
use super::reply;
use crate::StreamError;
use crate::metrics::counted;
use millrace_event::plan::ProjectId;

pub(super) async fn check_writable(core: &Core, shard: u16) -> Result<(), StreamError> {
    let script = &core.scripts.writable;
    let keys = core.keys(shard)?;
    let mut command = script.call(5);
    command.arg(&keys.events).arg(&keys.epoch).arg(&keys.shard_hash);
    // Rights are given by patterns, so any project and any batch will do.
    command.arg(keys.project(ProjectId(0))).arg(keys.markers(MarkerString::Batch(Uuid::nil())));
    command.arg(core.replicas().unwrap_or(0));
    let denied = reply::array(core.link(shard).connections.eval(script, &command).await?)?;
    let denied = denied.into_iter().map(reply::text).collect::<Result<Vec<_>, _>>()?;
    if !denied.is_empty() {
        let text = format!("the user of REDIS_URL lacks a right in Redis (NOPERM {})", denied.join(", "));
        return Err(counted(StreamError::Refused(text)));
    }
    Ok(())
}
