//! Measures what events cost while they wait in Redis: memory, and bytes of the append-only file.

use std::sync::Arc;

use testkit::{Redis, eventually};

use crate::error::BenchError;
use crate::load::{self, Load};
use crate::results::PendingCost;
use crate::subjects::Subject;
use crate::timeouts::BACKLOG_STORED;

/// Sends a load while the stream-worker is paused, compares the sizes of Redis before and after, and waits
/// until the events are stored. Returns the cost, and the number of accepted events: `None` and 0 for a
/// subject without Redis.
///
/// # Errors
/// When Redis or the store cannot be queried.
pub async fn measure_pending(
    subject: &mut Subject,
    load: &Load,
) -> Result<(Option<PendingCost>, u64), BenchError> {
    if subject.redis.is_none() || !subject.pause_worker() {
        return Ok((None, 0));
    }
    let settled = subject.table.settled().await?;
    let before = redis_size(subject.redis.as_ref().expect("checked above")).await?;
    let running = load::start(load).await?;
    let live = Arc::clone(running.live());
    running.finish().await?;
    let accepted = live.accepted();
    let after = redis_size(subject.redis.as_ref().expect("checked above")).await?;
    subject.resume_worker();
    eventually(BACKLOG_STORED, "the waiting events to be stored", async || {
        let stored = subject.table.settled().await.map_err(|error| error.to_string())? - settled;
        if stored == accepted { Ok(()) } else { Err(format!("{stored} of {accepted} events are stored")) }
    })
    .await;
    let per_event = |before: u64, after: u64| after.saturating_sub(before) as f64 / accepted as f64;
    let cost = PendingCost {
        redis_bytes_per_event: per_event(before.memory_bytes, after.memory_bytes),
        aof_bytes_per_event: per_event(before.aof_bytes, after.aof_bytes),
    };
    Ok((Some(cost), accepted))
}

struct RedisSize {
    memory_bytes: u64,
    aof_bytes: u64,
}

async fn redis_size(redis: &Redis) -> Result<RedisSize, BenchError> {
    let mut connection = redis.connect().await;
    let mut info = String::new();
    for section in ["memory", "persistence"] {
        info += &redis::cmd("INFO").arg(section).query_async::<String>(&mut connection).await?;
    }
    let number = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|number| number.parse().ok())
            .ok_or_else(|| BenchError::new(format!("the answer of Redis to INFO has no number {name}")))
    };
    Ok(RedisSize { memory_bytes: number("used_memory")?, aof_bytes: number("aof_current_size")? })
}
