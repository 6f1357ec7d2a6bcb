//! How fresh the table is: posts an event now and then, and looks for each until it is there.
//!
//! Events are posted at a fixed pace, whether or not those before were seen: a probe that waits for one stale event before it
//! posts the next sees few of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use testkit::http::HttpClient;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::failure::Failure;
use crate::load::{Identities, Latency, Marked, Target};
use crate::subjects::Table;

/// Between two events.
const EVERY: Duration = Duration::from_millis(40);
/// Between two looks for one at first. Later it is a part of the time it has taken already, so that looking for many
/// stale events is no load of its own.
const LOOK_EVERY_LEAST: Duration = Duration::from_millis(1);
const LOOK_EVERY_PART: u32 = 25;

/// Events looked for at once. When more are stale, posting waits.
const WAITING_MAX: usize = 512;

/// Probes until told to stop, and returns how long events took from their answer until they could be read. Only those
/// count that were accepted from `from` on.
pub async fn probe(
    target: &Target,
    table: &Table,
    accepted: &AtomicU64,
    from: Instant,
    stopped: watch::Receiver<bool>,
) -> Result<Latency, Failure> {
    let (posted, arriving) = mpsc::channel(WAITING_MAX);
    let looking = look(table, from, arriving);
    let ((), freshness) = tokio::try_join!(keep_posting(target, accepted, posted, stopped), looking)?;
    Ok(freshness)
}

/// An event, and when it was answered.
type Posted = (Marked, Instant);

async fn keep_posting(
    target: &Target,
    accepted: &AtomicU64,
    posted: mpsc::Sender<Posted>,
    stopped: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let (mut client, mut ids) = (HttpClient::new(target.address), Identities::new());
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        ticks.tick().await;
        let event = Marked::new(target, &mut ids);
        let answered = post(&mut client, target, &event).await?;
        accepted.fetch_add(1, Ordering::Relaxed);
        posted.send((event, answered)).await?;
    }
    Ok(())
}

/// Looks for what was posted, until nothing more comes and everything was seen.
async fn look(
    table: &Table,
    from: Instant,
    mut arriving: mpsc::Receiver<Posted>,
) -> Result<Latency, Failure> {
    let mut freshness = Latency::new();
    let mut waiting = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some((event, answered)) = arriving.recv(), if waiting.len() < WAITING_MAX => {
                waiting.push(seen(table, event, answered));
            }
            Some(seen) = waiting.next() => {
                let Seen { answered, took } = seen?;
                if answered >= from {
                    freshness.record(took);
                }
            }
            else => return Ok(freshness),
        }
    }
}

/// When an event was answered, and how long it then took.
struct Seen {
    answered: Instant,
    took: Duration,
}

async fn post(client: &mut HttpClient, target: &Target, event: &Marked) -> Result<Instant, Failure> {
    let authorization = format!("Bearer {}", target.key);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let answer = client.post("/v1/events", &headers, event.body.clone()).await?;
    match answer.status {
        202 => Ok(Instant::now()),
        _ => Err(Failure::new(format!("a probe was answered {answer:?}"))),
    }
}

/// Looks for an event until it is there.
async fn seen(table: &Table, event: Marked, answered: Instant) -> Result<Seen, Failure> {
    while !table.is_visible(event.id, &event.time, event.time_us).await? {
        tokio::time::sleep((answered.elapsed() / LOOK_EVERY_PART).max(LOOK_EVERY_LEAST)).await;
    }
    Ok(Seen { answered, took: answered.elapsed() })
}
