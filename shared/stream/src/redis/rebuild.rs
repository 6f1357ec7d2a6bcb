//! Giving a shard that has lost its memory its counters and an epoch again.

use super::keys::{GROUP, fence, rebuilt_marker};
use super::{RedisStream, admin, reply};
use crate::{Epoch, PendingBatch, ProjectCounters, StreamError};

const REBUILD: &str =
    concat!("#!lua flags=allow-oom", include_str!("clock.lua"), include_str!("rebuild.lua"));
const FENCE: &str = "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], ARGV[1])";

impl RedisStream {
    /// See [`crate::Stream::fence`].
    pub(super) async fn fence_off(&self, shard: u16, epoch: Epoch) -> Result<(), StreamError> {
        let mut command = redis::cmd("EVAL");
        command.arg(FENCE).arg(1).arg(&self.keys(shard)?.epoch).arg(fence(epoch));
        self.ask(&command).await.map(drop)
    }

    /// See [`crate::Stream::rebuild`].
    pub(super) async fn rebuild_all(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[ProjectCounters],
        expected: &[PendingBatch],
    ) -> Result<bool, StreamError> {
        let keys = self.keys(shard)?;
        let named: Vec<&PendingBatch> = expected.iter().filter(|batch| !batch.batch_id.is_nil()).collect();
        let mut command = redis::cmd("EVAL");
        command.arg(REBUILD).arg(4 + counters.len() + named.len());
        command.arg(&keys.events).arg(&keys.epoch).arg(&keys.shard_hash).arg(&keys.attempts);
        for project in counters {
            command.arg(keys.project(project.project));
        }
        for batch in &named {
            command.arg(keys.marker(batch.batch_id));
        }
        command.arg(fence(epoch)).arg(epoch.to_string()).arg(GROUP).arg(counters.len()).arg(expected.len());
        command.arg(&admin::ends(expected));
        command.arg(named.iter().map(|batch| u64::from(batch.count)).sum::<u64>());
        command.arg(named.iter().map(|batch| u64::from(batch.bytes)).sum::<u64>());
        for project in counters {
            command.arg(project.month).arg(project.used).arg(project.accepted).arg(project.pending);
        }
        for batch in &named {
            command.arg(rebuilt_marker(batch));
        }
        Ok(reply::integer(self.ask(&command).await?)? == 1)
    }
}
