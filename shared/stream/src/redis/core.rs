//! The state that all calls to one Redis share: connections, keys, and the epochs that this process trusts.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use deadpool_redis::{Connection, Pool, PoolError};
use millrace_address::Secret;
use redis::{Client, Cmd, RedisError, Value};

use super::admission_queue::AdmissionQueue;
use super::connection::{self, Connections};
use super::error::{ConnectionHealth, classify, connection_health, describe};
use super::keys::ShardKeys;
use super::options::RedisOptions;
use super::pool;
use super::scripts::Scripts;
use super::source::RedisSource;
use crate::metrics::{self, counted};
use crate::{Epoch, StreamError};

pub(super) struct Core {
    pub(super) shard_count: u16,
    /// For the short calls of the hot path.
    pub(super) connections: Arc<Connections>,
    pub(super) scripts: Arc<Scripts>,
    pub(super) admissions: AdmissionQueue,
    source: RedisSource,
    keys: Vec<ShardKeys>,
    /// The trusted epoch of each shard, as text.
    trusted: Vec<ArcSwapOption<String>>,
    /// Replaced when the settings may have changed.
    pool: ArcSwap<Pool>,
}

impl Core {
    /// Starts to connect in the background.
    pub(super) fn start(options: RedisOptions) -> Result<Self, StreamError> {
        let RedisOptions { source, durability: _, shards, backlog_events_max, connections } = options;
        let shard_count = shards.max(1);
        let (_, single) = connection::clients(&source).map_err(StreamError::Refused)?;
        let connections = Arc::new(Connections::start(source.clone(), connections));
        let scripts = Arc::new(Scripts::new());
        let pool = pool::create(&single, &connections)?;
        pool::observe(&pool);
        metrics::BACKLOG_EVENTS_MAX.set(backlog_events_max.saturating_mul(shard_count.into()) as f64);
        Ok(Self {
            shard_count,
            admissions: AdmissionQueue::start(&connections, &scripts, shard_count, backlog_events_max),
            connections,
            scripts,
            source,
            keys: (0..shard_count).map(ShardKeys::new).collect(),
            trusted: (0..shard_count).map(|_| ArcSwapOption::empty()).collect(),
            pool: ArcSwap::from_pointee(pool),
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
        self.trusted.get(usize::from(shard))?.load_full()
    }

    pub(super) fn trust_epoch(&self, shard: u16, epoch: Epoch) {
        if let Some(trusted) = self.trusted.get(usize::from(shard)) {
            trusted.store(Some(Arc::new(epoch.to_string())));
        }
    }

    /// Sends a command that may take long, over the pool.
    ///
    /// # Errors
    /// [`StreamError`], counted.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, StreamError> {
        self.try_ask(command).await?.map_err(|error| counted(classify(&error)))
    }

    /// A client for connections with a single user.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`] when the settings cannot be used now; not counted.
    pub(super) fn single(&self) -> Result<Client, StreamError> {
        connection::clients(&self.source).map(|(_, single)| single).map_err(StreamError::Unavailable)
    }

    /// A connection of the pool. One that cannot be opened may need another password, when that is in a file.
    async fn pooled(&self) -> Result<Connection, StreamError> {
        let pool = self.pool.load_full();
        let refused = match pool.get().await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        if matches!(self.source.url, Secret::Value(_)) || !matches!(refused, PoolError::Backend(_)) {
            return Err(pool::no_connection(&refused));
        }
        let pool = pool::create(&self.single()?, &self.connections)?;
        pool::observe(&pool);
        let connection = pool.get().await.map_err(|error| pool::no_connection(&error))?;
        self.pool.store(Arc::new(pool));
        Ok(connection)
    }

    /// As [`Core::ask`], but leaves the error of Redis to the caller. A connection that failed is closed, not
    /// returned to the pool.
    pub(super) async fn try_ask(&self, command: &Cmd) -> Result<Result<Value, RedisError>, StreamError> {
        self.connections.attempted().await;
        self.connections.check_circuit().map_err(counted)?;
        let mut connection = self.pooled().await.map_err(counted)?;
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
