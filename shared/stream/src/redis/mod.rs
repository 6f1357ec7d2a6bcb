//! The stream on Redis: one stream per shard, one consumer group, and scripts that make every step one step.
//!
//! Keys, for shard 0 (all of a shard carry its hash tag):
//!
//! | key | type | what |
//! |---|---|---|
//! | `{s0}:events` | stream | the admitted batches, as [`millrace_event::entry`] describes; group `workers` |
//! | `{s0}:epoch` | string | the epoch, or `rebuilding <epoch>` |
//! | `{s0}:shard` | hash | `clock_ms`, `backlog_events`, `backlog_bytes` |
//! | `{s0}:project:<id>` | hash | `tat` (µs), `month`, `used`, `accepted`, `pending` |
//! | `{s0}:batch:<uuid>` | string | a batch's marker: `p flags project count received_ms digest` while pending; settled, `s …` with `stored duplicate dead` behind |
//! | `{s0}:attempts` | hash | entry id → attempts to write it alone that never returned |
//!
//! Nothing is ever trimmed: an entry leaves by `settle.lua` alone, so XLEN is the backlog. A marker lives at least as
//! long as its entry, so that no retry of a pending batch is admitted twice; after that, a day for a keyed batch, a
//! minute for an awaited one, and 15 seconds for the others: as long as a lost answer may be asked for again.
//!
//! What this room must never do: send a blocking command on a shared connection, or wait for a server that is away.

mod admin;
mod admit;
mod connection;
mod durability;
mod error;
mod groups;
mod keys;
mod reader;
mod rebuild;
mod reply;
mod settle;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use redis::Client;

use self::connection::{Connections, Script};
use self::groups::Groups;
use self::keys::ShardKeys;
use crate::metrics;
use crate::{
    Admission, Backlog, BatchId, BatchState, Decision, EntryId, Epoch, PendingBatch, ProjectCounters, Reader,
    Settlement, Stream, StreamError,
};
use millrace_event::plan::{LimitState, ProjectId};

/// Settings of a [`RedisStream`].
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// `redis://[user:password@]host:port[/db]` or `redis+unix://…`.
    pub url: String,
    /// Shards the projects are spread over. Fixed for the life of an installation; at least 1.
    pub shards: u16,
    /// Events that may wait in one shard.
    pub backlog_events_max: u64,
    /// Shared connections for everything but blocking reads; at least 1.
    pub connections: usize,
}

/// The stream on Redis.
pub struct RedisStream {
    shard_count: u16,
    keys: Vec<ShardKeys>,
    trusted: Vec<ArcSwapOption<String>>,
    connections: Arc<Connections>,
    groups: Groups,
    pool: deadpool_redis::Pool,
    single: Client,
    standing_script: Script,
    settlement: settle::Scripts,
}

impl RedisStream {
    /// Starts to connect in the background, and does not wait for it. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StreamError::Refused`] when the URL makes no sense.
    pub fn new(options: RedisOptions) -> Result<Arc<Self>, StreamError> {
        let shard_count = options.shards.max(1);
        let (shared, single) = connection::clients(&options.url)
            .map_err(|error| StreamError::Refused(format!("the Redis URL is not usable: {error}")))?;
        let connections = Arc::new(Connections::start(shared, options.connections));
        let pool = admin::pool(&single)?;
        admin::watch(&pool);
        metrics::backlog_events_max(options.backlog_events_max.saturating_mul(shard_count.into()));
        Ok(Arc::new(Self {
            shard_count,
            groups: Groups::start(&connections, shard_count, options.backlog_events_max),
            connections,
            keys: (0..shard_count).map(ShardKeys::new).collect(),
            trusted: (0..shard_count).map(|_| ArcSwapOption::empty()).collect(),
            pool,
            single,
            standing_script: admit::standing_script(),
            settlement: settle::Scripts::new(),
        }))
    }

    fn keys(&self, shard: u16) -> Result<&ShardKeys, StreamError> {
        self.keys.get(usize::from(shard)).ok_or_else(|| {
            StreamError::Refused(format!("there is no shard {shard}, only {}", self.shard_count))
        })
    }

    fn trusted(&self, shard: u16) -> Option<Arc<String>> {
        self.trusted.get(usize::from(shard))?.load_full()
    }
}

#[async_trait]
impl Stream for RedisStream {
    fn shards(&self) -> u16 {
        self.shard_count
    }

    async fn admit(&self, admission: &Admission<'_>) -> Result<Decision, StreamError> {
        self.admit_batch(admission).await
    }

    async fn batch_state(&self, project: ProjectId, batch_id: BatchId) -> Result<BatchState, StreamError> {
        self.state_of(project, batch_id).await
    }

    async fn limit_state(&self, project: ProjectId) -> Result<LimitState, StreamError> {
        self.standing_of(project).await
    }

    async fn backlog(&self) -> Result<Backlog, StreamError> {
        self.backlog_of_all().await
    }

    async fn durability_faults(&self) -> Result<Vec<String>, StreamError> {
        self.faults().await
    }

    async fn reader(&self, shard: u16, consumer: &str) -> Result<Box<dyn Reader>, StreamError> {
        let events = self.keys(shard)?.events.clone();
        Ok(Box::new(reader::RedisReader::open(&self.single, events, consumer).await?))
    }

    async fn settle(&self, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError> {
        self.settle_all(shard, settlements).await
    }

    async fn note_attempt(&self, shard: u16, id: EntryId) -> Result<u32, StreamError> {
        self.attempt_noted(shard, id).await
    }

    async fn forget_attempts(&self, shard: u16, id: EntryId) -> Result<(), StreamError> {
        self.attempts_forgotten(shard, id).await
    }

    async fn retire_consumers(&self, shard: u16, idle: Duration) -> Result<u64, StreamError> {
        self.retire(shard, idle).await
    }

    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StreamError> {
        self.epoch_of(shard).await
    }

    fn trust_epoch(&self, shard: u16, epoch: Epoch) {
        if let Some(trusted) = self.trusted.get(usize::from(shard)) {
            trusted.store(Some(Arc::new(epoch.to_string())));
        }
    }

    async fn pending_batches(&self, shard: u16) -> Result<Vec<PendingBatch>, StreamError> {
        self.pending_of(shard).await
    }

    async fn fence(&self, shard: u16, epoch: Epoch) -> Result<(), StreamError> {
        self.fence_off(shard, epoch).await
    }

    async fn rebuild(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[ProjectCounters],
        expected: &[PendingBatch],
    ) -> Result<bool, StreamError> {
        self.rebuild_all(shard, epoch, counters, expected).await
    }

    async fn counters(&self, projects: &[ProjectId]) -> Result<Vec<ProjectCounters>, StreamError> {
        self.counters_of(projects).await
    }
}
