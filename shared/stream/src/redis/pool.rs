//! The small pool of connections for operators, audits and upkeep, so that a long call never delays an
//! admission.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::{Hook, HookError, Manager, Pool, PoolError, Runtime};
use redis::{AsyncConnectionConfig, Client};

use super::connection::Connections;
use super::error::unreachable;
use super::slot::CONNECT_TIMEOUT;
use crate::StreamError;
use millrace_telemetry::metrics::{PoolUse, at_scrape};

/// Long enough for the rebuild of a full backlog.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
const POOL_CONNECTIONS: usize = 4;

/// Makes the pool without connecting. It gives up its connections whenever the shared ones do.
pub(super) fn create(client: &Client, shared: &Arc<Connections>) -> Result<Pool, StreamError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    let refused = |error: String| StreamError::Refused(error);
    let manager = Manager::new_with_config(client.get_connection_info().clone(), config)
        .map_err(|error| refused(error.to_string()))?;
    let shared = Arc::clone(shared);
    let is_current = Hook::sync_fn(move |_, metrics| match shared.is_doubted(metrics.created) {
        true => Err(HookError::message("the address may lead to another server now")),
        false => Ok(()),
    });
    Pool::builder(manager)
        .pre_recycle(is_current)
        .max_size(POOL_CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .create_timeout(Some(CONNECT_TIMEOUT))
        .recycle_timeout(Some(CONNECT_TIMEOUT))
        .wait_timeout(Some(RESPONSE_TIMEOUT))
        .build()
        .map_err(|error| refused(error.to_string()))
}

/// Why the pool has no connection.
pub(super) fn no_connection(error: &PoolError) -> StreamError {
    match error {
        PoolError::Backend(error) => unreachable(error),
        PoolError::Timeout(_) => StreamError::Unavailable("no connection to Redis in time".to_owned()),
        other => StreamError::Unavailable(other.to_string()),
    }
}

/// Records the use of all pools together at every scrape, until there are none: `pools` lists one for each of
/// the links, which is `None` before its first use.
pub(super) fn observe(pools: impl Fn() -> Option<Vec<Option<Pool>>> + Send + 'static) {
    at_scrape(move || {
        let Some(pools) = pools() else { return false };
        let now: Vec<_> = pools.iter().flatten().map(Pool::status).collect();
        PoolUse {
            pool: "redis",
            max: pools.len() * POOL_CONNECTIONS,
            used: now.iter().map(|now| now.size.saturating_sub(now.available)).sum(),
            idle: now.iter().map(|now| now.available).sum(),
            waiting: Some(now.iter().map(|now| now.waiting).sum()),
        }
        .record();
        true
    });
}
