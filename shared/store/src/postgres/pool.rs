//! The pool of connections: how it prepares a new one, and which used one it gives out again.
//!
//! This module must never give a process that serves a connection to a server that takes no writes, or to an
//! old primary.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{
    Client, ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod,
    Runtime, TimeoutType,
};
use millrace_telemetry::metrics::{PoolUse, at_scrape};
use tokio_postgres::Config;

use super::connector::Connector;
use super::lineage::Lineage;
use super::session;
use crate::metrics::{self, STORE_RECONNECTS};

/// For a connection of the pool.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Timeouts of the server for sessions of the pool.
const SETTINGS: &str = "SET lock_timeout = '2s'; SET statement_timeout = '5s';
    SET idle_in_transaction_session_timeout = '15s';";

/// A pool of at most `size` connections, and at least one. Makes no connection.
pub(super) fn build(connector: Connector, size: usize) -> Pool {
    // A command, which may read from a standby, is over soon.
    let lineage = connector.must_write().then(|| Arc::clone(connector.lineage()));
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let created = Arc::new(AtomicU64::new(0));
    let pool = Pool::builder(Manager::from_connect(Config::new(), connector, recycling))
        .max_size(size.max(1))
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(TIMEOUT))
        .create_timeout(Some(TIMEOUT))
        .recycle_timeout(Some(TIMEOUT))
        .post_create(prepare(Arc::clone(&created)))
        .pre_recycle(inspect(lineage))
        .build()
        .expect("a pool with a runtime can have timeouts");
    report(&pool, created);
    pool
}

/// A connection, after waiting for one if necessary.
pub(super) async fn client(pool: &Pool) -> Result<Client, PoolError> {
    let client = pool.get().await;
    if matches!(client, Err(ref error) if !matches!(error, PoolError::Timeout(TimeoutType::Wait))) {
        metrics::store_connect_failed();
    }
    client
}

/// Prepares a new connection.
fn prepare(created: Arc<AtomicU64>) -> Hook {
    Hook::async_fn(move |client: &mut ClientWrapper, _| {
        created.fetch_add(1, Ordering::Relaxed);
        let prepare = async { session::prepare_session(client, SETTINGS).await.map_err(HookError::Backend) };
        Box::pin(prepare)
    })
}

/// Looks at a connection before it is used again.
fn inspect(lineage: Option<Arc<Lineage>>) -> Hook {
    Hook::async_fn(move |client: &mut ClientWrapper, _| {
        let lineage = lineage.clone();
        Box::pin(async move {
            let Some(lineage) = lineage else { return Ok(()) };
            match session::is_usable(client, &lineage).await.map_err(HookError::Backend)? {
                true => Ok(()),
                false => Err(HookError::message("the server takes no writes any more")),
            }
        })
    })
}

/// Records the metrics of the pool at every scrape, for as long as the pool exists. `created` counts all
/// connections it ever created: those that it no longer has were lost.
fn report(pool: &Pool, created: Arc<AtomicU64>) {
    let pool = pool.weak();
    at_scrape(move || {
        let Some(pool) = pool.upgrade() else { return false };
        let created = created.load(Ordering::Relaxed);
        let status = pool.status();
        PoolUse {
            pool: "postgres",
            max: status.max_size,
            used: status.size.saturating_sub(status.available),
            idle: status.available,
            waiting: Some(status.waiting),
        }
        .record();
        STORE_RECONNECTS.set_total(&["pool"], created.saturating_sub(status.size as u64));
        true
    });
}
