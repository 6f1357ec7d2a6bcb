//! The names of everything in Redis. All keys of a shard carry its hash tag, so that what one script touches is in one
//! slot of a cluster.

use crate::{BatchId, PendingBatch};
use millrace_event::plan::ProjectId;

/// The consumer group of the workers.
pub(super) const GROUP: &str = "workers";

/// The keys of one shard that do not depend on the request.
pub(super) struct ShardKeys {
    shard: u16,
    /// The stream.
    pub(super) events: String,
    /// The epoch, or a fence while counters are rebuilt.
    pub(super) epoch: String,
    /// Hash: `clock_ms`, `backlog_events`, `backlog_bytes`.
    pub(super) shard_hash: String,
    /// Hash: entry id → attempts that never returned.
    pub(super) attempts: String,
}

impl ShardKeys {
    pub(super) fn new(shard: u16) -> Self {
        let key = |name: &str| format!("{{s{shard}}}:{name}");
        Self {
            shard,
            events: key("events"),
            epoch: key("epoch"),
            shard_hash: key("shard"),
            attempts: key("attempts"),
        }
    }

    /// Hash: `tat`, `month`, `used`, `accepted`, `pending`.
    pub(super) fn project(&self, project: ProjectId) -> String {
        format!("{{s{}}}:project:{project}", self.shard)
    }

    /// What is remembered of a batch; admit.lua writes it, settle.lua ends it.
    pub(super) fn marker(&self, batch_id: BatchId) -> String {
        format!("{{s{}}}:batch:{batch_id}", self.shard)
    }
}

/// What stands in the epoch's place while its counters are rebuilt.
pub(super) fn fence(epoch: crate::Epoch) -> String {
    format!("rebuilding {epoch}")
}

/// The marker of a batch that was found in the stream by a rebuild.
pub(super) fn rebuilt_marker(batch: &PendingBatch) -> String {
    format!("p - {} {} {} -", batch.project, batch.count, batch.id.ms)
}
