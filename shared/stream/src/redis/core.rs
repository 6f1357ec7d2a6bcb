//! The state that all calls to one Redis share: connections, keys, and the epochs that this process trusts.

use std::sync::Arc;
use std::time::Instant;

use deadpool_redis::{Connection, Pool};
use redis::{Client, Cmd, RedisError, Value};

use super::admission_queue::AdmissionQueue;
use super::connection::{self, Connections};
use super::error::{ConnectionHealth, classify, connection_health, describe};
use super::keys::ShardKeys;
use super::options::RedisOptions;
use super::pool;
use super::scripts::Scripts;
use super::shard_witness::ShardWitnesses;
use crate::metrics::{self, counted};
use crate::{Epoch, StreamError};

pub(super) struct Core {
    pub(super) shard_count: u16,
    /// For the short calls of the hot path.
    pub(super) connections: Arc<Connections>,
    pub(super) scripts: Arc<Scripts>,
    pub(super) admissions: AdmissionQueue,
    /// Makes connections with a single user.
    pub(super) single: Client,
    keys: Vec<ShardKeys>,
    /// The trusted epochs, and the batches that this process acknowledged.
    pub(super) witnesses: Arc<ShardWitnesses>,
    pool: Pool,
}

impl Core {
    /// Starts to connect in the background.
    pub(super) fn start(options: RedisOptions) -> Result<Self, StreamError> {
        let RedisOptions { source, durability: _, shards, backlog_events_max, connections } = options;
        let shard_count = shards.max(1);
        let invalid = |reason: String| StreamError::Refused(format!("REDIS_URL: {reason}"));
        let address = source.read().map_err(invalid)?;
        let (shared, single) =
            connection::clients(address.fixed()).map_err(|error| invalid(error.to_string()))?;
        let witnesses = Arc::new(ShardWitnesses::new(shard_count));
        let connections = Arc::new(Connections::start(shared, connections, &witnesses));
        let scripts = Arc::new(Scripts::new());
        let pool = pool::create(&single, &connections)?;
        pool::observe(&pool);
        metrics::BACKLOG_EVENTS_MAX.set(backlog_events_max.saturating_mul(shard_count.into()) as f64);
        Ok(Self {
            shard_count,
            admissions: AdmissionQueue::start(
                &connections,
                &scripts,
                &witnesses,
                shard_count,
                backlog_events_max,
            ),
            connections,
            scripts,
            single,
            keys: (0..shard_count).map(ShardKeys::new).collect(),
            witnesses,
            pool,
        })
    }

    pub(super) fn keys(&self, shard: u16) -> Result<&ShardKeys, StreamError> {
        self.keys.get(usize::from(shard)).ok_or_else(|| {
            StreamError::Refused(format!("there is no shard {shard}: this stream has {}", self.shard_count))
        })
    }

    /// The keys of all shards.
    pub(super) fn all_keys(&self) -> &[ShardKeys] {
        &self.keys
    }

    pub(super) fn trusted_epoch(&self, shard: u16) -> Option<Arc<String>> {
        self.witnesses.shard(shard)?.trusted()
    }

    pub(super) fn trust_epoch(&self, shard: u16, epoch: Epoch) {
        if let Some(known) = self.witnesses.shard(shard) {
            known.trust(epoch);
        }
    }

    /// Sends a command that may take long, over the pool.
    ///
    /// # Errors
    /// [`StreamError`], counted.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, StreamError> {
        self.try_ask(command).await?.map_err(|error| counted(classify(&error)))
    }

    /// As [`Core::ask`], but leaves the error of Redis to the caller. A connection that failed is closed, not
    /// returned to the pool.
    pub(super) async fn try_ask(&self, command: &Cmd) -> Result<Result<Value, RedisError>, StreamError> {
        self.connections.attempted().await;
        self.connections.check_circuit().map_err(counted)?;
        let mut connection = self.pool.get().await.map_err(|error| counted(pool::no_connection(&error)))?;
        let sent = Instant::now();
        let answer = command.query_async(&mut connection).await;
        if let Err(error) = &answer {
            drop(Connection::take(connection));
            if connection_health(error) == ConnectionHealth::Demoted {
                self.connections.give_up(sent, describe(error));
            }
        }
        Ok(answer)
    }
}
