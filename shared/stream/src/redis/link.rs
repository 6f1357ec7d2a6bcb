//! Everything that leads to one primary: the shared connections, the pool, and connections with a single
//! user. All of them are given up together when the primary is elsewhere.
//!
//! With a fixed address or Sentinel one link serves all shards. In a cluster each shard has its own, because
//! its slot can be on any node, and a node that is lost must stop no other shard.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use deadpool_redis::{Connection, Pool};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ConnectionInfo, RedisError, Value};

use super::client;
use super::connection::Connections;
use super::error::{ConnectionHealth, classify, connection_health, describe, unreachable};
use super::pool;
use super::route::Route;
use super::shard_witness::LinkWitness;
use super::slot::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};
use crate::StreamError;
use crate::metrics::counted;

pub(super) struct Link {
    /// For the short calls of the hot path.
    pub(super) connections: Arc<Connections>,
    /// For all other calls. `None` before the first of them.
    pool: ArcSwapOption<PlacedPool>,
}

/// A pool, and the server that its connections lead to.
struct PlacedPool {
    place: Arc<ConnectionInfo>,
    pool: Pool,
}

impl Link {
    /// Starts to connect in the background.
    pub(super) fn start(route: Route, connections: usize, witness: LinkWitness) -> Self {
        let connections = Arc::new(Connections::start(route, connections, witness));
        Self { connections, pool: ArcSwapOption::empty() }
    }

    /// Sends a command that may take long, over the pool.
    ///
    /// # Errors
    /// [`StreamError`], counted.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, StreamError> {
        self.try_ask(command).await?.map_err(|error| counted(classify(&error)))
    }

    /// As [`Link::ask`], but leaves the error of Redis to the caller. A connection that failed is closed, not
    /// returned to the pool.
    pub(super) async fn try_ask(&self, command: &Cmd) -> Result<Result<Value, RedisError>, StreamError> {
        self.connections.attempted().await;
        let pool = self.current_pool().map_err(counted)?;
        let mut connection = pool.get().await.map_err(|error| counted(pool::no_connection(&error)))?;
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

    /// Opens a connection for a single user, and says when. It must be given up when
    /// [`Connections::is_doubted`] says so of that time.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`], not counted.
    pub(super) async fn open(&self) -> Result<(MultiplexedConnection, Instant), StreamError> {
        // Before the place is read: it may be left from then on.
        let opened_at = Instant::now();
        let place = self.connections.place()?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let client = client::single(&place).map_err(|error| unreachable(&error))?;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        Ok((connecting.await.map_err(|error| unreachable(&error))?, opened_at))
    }

    /// The pool of the server that the shared connections lead to. A pool of another server is dropped, and
    /// its connections are closed when they are returned.
    fn current_pool(&self) -> Result<Pool, StreamError> {
        let place = self.connections.place()?;
        if let Some(current) = self.pool.load().as_ref().filter(|current| Arc::ptr_eq(&current.place, &place))
        {
            return Ok(current.pool.clone());
        }
        let client = client::single(&place).map_err(|error| unreachable(&error))?;
        let pool = pool::create(&client, &self.connections)?;
        self.pool.store(Some(Arc::new(PlacedPool { place, pool: pool.clone() })));
        Ok(pool)
    }

    /// The pool, once there is one.
    pub(super) fn pool(&self) -> Option<Pool> {
        self.pool.load().as_ref().map(|current| current.pool.clone())
    }
}
