//! What events cost while they wait in Redis: memory, and bytes of the append-only file.

use testkit::{Redis, eventually};

use super::Pending;
use crate::failure::Failure;
use crate::load::{self, Load};
use crate::patience::DRAINED;
use crate::subjects::Subject;

/// Sends a load while nobody drains, weighs what waits, and lets it be stored. `None` for a subject without Redis. Also
/// returns how many events that were.
///
/// # Errors
/// When Redis or the store do not answer.
pub async fn weigh(subject: &mut Subject, load: &Load) -> Result<(Option<Pending>, u64), Failure> {
    if subject.redis.is_none() || !subject.pause_drain() {
        return Ok((None, 0));
    }
    let settled = subject.table.settled().await?;
    let before = weight(subject.redis.as_ref().expect("looked at above")).await?;
    let running = load::start(load).await?;
    let live = std::sync::Arc::clone(running.live());
    running.finish().await?;
    let accepted = live.accepted();
    let after = weight(subject.redis.as_ref().expect("looked at above")).await?;
    subject.resume_drain();
    eventually(DRAINED, "what was weighed to be stored", async || {
        let stored = subject.table.settled().await.map_or(0, |now| now - settled);
        if stored == accepted { Ok(()) } else { Err(format!("{stored} of {accepted} are")) }
    })
    .await;
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / accepted as f64;
    let pending = Pending {
        redis_bytes_per_event: each(before.memory, after.memory),
        aof_bytes_per_event: each(before.file, after.file),
    };
    Ok((Some(pending), accepted))
}

struct Weight {
    memory: u64,
    file: u64,
}

async fn weight(redis: &Redis) -> Result<Weight, Failure> {
    let mut connection = redis.connect().await;
    let mut info = String::new();
    for section in ["memory", "persistence"] {
        info += &redis::cmd("INFO").arg(section).query_async::<String>(&mut connection).await?;
    }
    let number = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|number| number.parse().ok())
            .ok_or_else(|| Failure::new(format!("Redis tells no {name}")))
    };
    Ok(Weight { memory: number("used_memory")?, file: number("aof_current_size")? })
}
