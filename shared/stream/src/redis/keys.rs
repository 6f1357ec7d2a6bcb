//! The keys in Redis. All keys of a shard have the same hash tag, so that one script only touches keys in one
//! slot of a cluster.

use uuid::Uuid;

use crate::{BatchId, Epoch};
use millrace_event::limit::Counter;
use millrace_event::plan::ProjectId;

/// The consumer group of the workers.
pub(super) const GROUP: &str = "workers";

/// What has a string of markers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum MarkerString {
    /// One batch.
    Batch(BatchId),
    /// Consecutive places of a group, with the number of this part of it.
    Group(Uuid, u8),
}

/// The keys of one shard that do not depend on the request.
pub(super) struct ShardKeys {
    shard: u16,
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

    /// Hash: `window`, `units`, `billionths`. The epoch is in its name: the counters of an earlier epoch are
    /// not trusted, and there is no list by which they could be removed at once.
    pub(super) fn limit(&self, epoch: &str, project: ProjectId, counter: &Counter) -> String {
        let Counter { meter, period, subject } = counter;
        format!("{{s{}}}:limit:{epoch}:{project}:{}:{period}:{subject}", self.shard, meter.0)
    }

    /// A string with the marker of a batch, or of batches of a group: written by admit.lua; settle.lua gives
    /// it a time to live.
    pub(super) fn markers(&self, string: MarkerString) -> String {
        let shard = self.shard;
        match string {
            MarkerString::Batch(batch_id) => format!("{{s{shard}}}:batch:{batch_id}"),
            MarkerString::Group(group, part) => format!("{{s{shard}}}:batch:{group}:{part}"),
        }
    }
}

/// The value of the epoch's key while the counters are rebuilt.
pub(super) fn fence(epoch: Epoch) -> String {
    format!("rebuilding {epoch}")
}
