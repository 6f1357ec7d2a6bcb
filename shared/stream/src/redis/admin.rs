//! The calls of operators, audits and upkeep. They go through a small pool of their own connections, so that a long
//! one never stands in the way of an admission.

use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, Runtime};
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Value};
use uuid::Uuid;

use super::connection::CONNECT_TIMEOUT;
use super::error::{counted, meaning};
use super::keys::GROUP;
use super::{RedisStream, reply};
use crate::{Backlog, EntryId, Epoch, PendingBatch, ProjectCounters, StreamError};
use millrace_event::plan::ProjectId;
use millrace_telemetry::metrics::{PoolUse, at_scrape};

const BACKLOG: &str =
    concat!("#!lua flags=no-writes", include_str!("clock.lua"), include_str!("backlog.lua"));
const PENDING: &str = include_str!("pending.lua");
const RETIRE: &str = include_str!("retire.lua");

/// Long enough for a rebuild of a full backlog.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
const POOL_CONNECTIONS: usize = 4;
/// Entries listed by one call.
const PAGE_ENTRIES: usize = 500;

/// Makes the pool; connects to nothing yet.
pub(super) fn pool(client: &Client) -> Result<Pool, StreamError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    let refused = |error: String| StreamError::Refused(error);
    let manager = Manager::new_with_config(client.get_connection_info().clone(), config)
        .map_err(|error| refused(error.to_string()))?;
    Pool::builder(manager)
        .max_size(POOL_CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .create_timeout(Some(CONNECT_TIMEOUT))
        .recycle_timeout(Some(CONNECT_TIMEOUT))
        .wait_timeout(Some(RESPONSE_TIMEOUT))
        .build()
        .map_err(|error| refused(error.to_string()))
}

/// Has the pool looked at by whoever scrapes, for as long as it lives.
pub(super) fn watch(pool: &Pool) {
    let pool = pool.weak();
    at_scrape(move || {
        let Some(pool) = pool.upgrade() else { return false };
        let now = pool.status();
        PoolUse {
            pool: "redis",
            max: now.max_size,
            used: now.size.saturating_sub(now.available),
            idle: now.available,
            waiting: Some(now.waiting),
        }
        .record();
        true
    });
}

/// `EVAL` of retire.lua for consumers of this stream that are idle for so long: the one named, or all when it is empty.
pub(super) fn retire_command(events: &str, idle: Duration, consumer: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(RETIRE).arg(1).arg(events).arg(GROUP);
    command.arg(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)).arg(consumer);
    command
}

impl RedisStream {
    /// Sends a command over the pool. A connection that failed is never put back.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, StreamError> {
        self.try_ask(command).await?.map_err(|error| counted(meaning(&error)))
    }

    pub(super) async fn try_ask(&self, command: &Cmd) -> Result<Result<Value, RedisError>, StreamError> {
        self.connections.closed().map_err(counted)?;
        let mut connection =
            self.pool.get().await.map_err(|error| counted(StreamError::Unavailable(error.to_string())))?;
        let answer = command.query_async(&mut connection).await;
        if answer.is_err() {
            drop(Connection::take(connection));
        }
        Ok(answer)
    }

    /// See [`crate::Stream::backlog`].
    pub(super) async fn backlog_of_all(&self) -> Result<Backlog, StreamError> {
        let mut backlog = Backlog::default();
        for keys in &self.keys {
            let mut command = redis::cmd("EVAL");
            command.arg(BACKLOG).arg(2).arg(&keys.events).arg(&keys.shard_hash);
            let [entries, events, bytes, age_ms] = reply::tuple(self.ask(&command).await?)?;
            backlog.entries += reply::unsigned(entries)?;
            backlog.events += reply::unsigned(events)?;
            backlog.bytes += reply::unsigned(bytes)?;
            backlog.oldest_age_ms = backlog.oldest_age_ms.max(reply::unsigned(age_ms)?);
        }
        Ok(backlog)
    }

    /// See [`crate::Stream::retire_consumers`].
    pub(super) async fn retire(&self, shard: u16, idle: Duration) -> Result<u64, StreamError> {
        let command = retire_command(&self.keys(shard)?.events, idle, "");
        reply::unsigned(self.ask(&command).await?)
    }

    /// See [`crate::Stream::epoch`].
    pub(super) async fn epoch_of(&self, shard: u16) -> Result<Option<Epoch>, StreamError> {
        let mut command = redis::cmd("GET");
        command.arg(&self.keys(shard)?.epoch);
        match self.ask(&command).await? {
            Value::Nil => Ok(None),
            epoch => Ok(Uuid::try_parse(&reply::text(epoch)?).ok()),
        }
    }

    /// See [`crate::Stream::pending_batches`].
    pub(super) async fn pending_of(&self, shard: u16) -> Result<Vec<PendingBatch>, StreamError> {
        let keys = self.keys(shard)?;
        let mut pending: Vec<PendingBatch> = Vec::new();
        loop {
            let from = pending.last().map_or_else(|| "-".to_owned(), |batch| format!("({}", batch.id));
            let mut command = redis::cmd("EVAL");
            command.arg(PENDING).arg(1).arg(&keys.events).arg(from).arg(PAGE_ENTRIES);
            let page = reply::array(self.ask(&command).await?)?;
            let full = page.len() == PAGE_ENTRIES;
            for row in page {
                pending.push(reply::pending_batch(row)?);
            }
            if !full {
                return Ok(pending);
            }
        }
    }

    /// See [`crate::Stream::counters`].
    pub(super) async fn counters_of(
        &self,
        projects: &[ProjectId],
    ) -> Result<Vec<ProjectCounters>, StreamError> {
        let mut counters = Vec::with_capacity(projects.len());
        for &project in projects {
            let keys = self.keys(project.shard(self.shard_count))?;
            let mut command = redis::cmd("HMGET");
            command.arg(keys.project(project)).arg(&["accepted", "pending", "month", "used"]);
            let [accepted, pending, month, used] = reply::tuple(self.ask(&command).await?)?;
            counters.push(ProjectCounters {
                project,
                accepted: reply::unsigned(accepted)?,
                pending: reply::integer(pending)?,
                month: reply::small(month)?,
                used: reply::unsigned(used)?,
            });
        }
        Ok(counters)
    }
}

/// The ends of a list of pending batches, as rebuild.lua compares them.
pub(super) fn ends(pending: &[PendingBatch]) -> [String; 2] {
    let text = |id: Option<EntryId>| id.map_or_else(String::new, |id| id.to_string());
    [text(pending.first().map(|batch| batch.id)), text(pending.last().map(|batch| batch.id))]
}
