//! Stream and store, as this program opens them.

use std::time::{Duration, Instant};

use shared::config::Backend;
use shared::store::SharedStore;
use shared::store::postgres::{PostgresOptions, PostgresStore};
use shared::stream::redis::{RedisOptions, RedisStream};
use shared::stream::{SharedStream, StreamError};

/// How long Redis may take to be connected to. The stream itself never waits: it answers "unavailable" at once.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_POLL: Duration = Duration::from_millis(20);

/// The store; it connects when it is first asked.
pub(crate) fn store(backend: &Backend) -> SharedStore {
    PostgresStore::new(PostgresOptions {
        config: backend.database.clone(),
        pool_size: 2,
        application: "millrace",
    })
}

/// The stream, connected.
///
/// # Errors
/// [`StreamError`] when it still is not after a few seconds.
pub(crate) async fn stream(backend: &Backend) -> Result<SharedStream, StreamError> {
    let stream = RedisStream::new(RedisOptions {
        url: backend.redis_url.clone(),
        shards: backend.stream_shards,
        backlog_events_max: backend.backlog_events_max,
        connections: 1,
    })?;
    let started = Instant::now();
    loop {
        match shared::stream::Stream::backlog(&*stream).await {
            Err(StreamError::Unavailable(_)) if started.elapsed() < CONNECT_DEADLINE => {
                tokio::time::sleep(CONNECT_POLL).await;
            }
            Err(error) => return Err(error),
            Ok(_) => return Ok(stream),
        }
    }
}
