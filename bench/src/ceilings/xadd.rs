//! The rate of a Redis script that only appends, on a Redis that calls fsync before it answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_event::entry::{NewBatch, PackedEntry};
use millrace_event::plan::ProjectId;
use redis::Script;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::rows::Rows;
use crate::error::BenchError;
use crate::results::Ceiling;
use crate::subjects;

/// ingest-api's default.
const CONNECTIONS: usize = 2;
/// Scripts in flight.
const CALLERS: usize = 256;
/// The stream is trimmed, so that the machine's memory does not limit the rate.
const APPEND: &str = "return redis.call('XADD', KEYS[1], 'MAXLEN', '~', 100000, '*', unpack(ARGV))";

pub(super) async fn measure(events: usize, window: Duration) -> Result<Ceiling, BenchError> {
    let redis = subjects::redis().await;
    let mut rows = Vec::new();
    Rows::new(1, events)?.write(&mut rows)?;
    let count = u32::try_from(events)?;
    let batch = NewBatch::new(Uuid::now_v7(), ProjectId(1), count, rows);
    let entry = Arc::new(PackedEntry::pack([&batch]));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(redis.connect().await);
    }
    let until = Instant::now() + window;
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let connection = connections[number % CONNECTIONS].clone();
        callers.spawn(call(connection, Arc::clone(&entry), until));
    }
    let mut calls = 0;
    while let Some(done) = callers.join_next().await {
        calls += done??;
    }
    let per_s = calls as f64 / window.as_secs_f64();
    let events_per_s = per_s * events as f64;
    Ok(Ceiling { name: "bare XADD script".to_owned(), events_per_batch: events, per_s, events_per_s })
}

async fn call(
    mut connection: MultiplexedConnection,
    entry: Arc<PackedEntry>,
    until: Instant,
) -> Result<u64, redis::RedisError> {
    let script = Script::new(APPEND);
    let mut calls = 0;
    while Instant::now() < until {
        let mut call = script.key("{s0}:events");
        for (name, value) in entry.fields() {
            call.arg(name).arg(&value[..]);
        }
        call.invoke_async::<String>(&mut connection).await?;
        calls += 1;
    }
    Ok(calls)
}
