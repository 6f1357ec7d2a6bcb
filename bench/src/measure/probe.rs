//! Measures freshness: posts single events, and queries the table for each until it can be read.
//!
//! Events are posted at a fixed rate, whether or not earlier ones can be read already. A probe that waited
//! for a stale event before it posted the next would measure few of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use testkit::http::HttpClient;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::error::BenchError;
use crate::load::{IdGenerator, LatencyHistogram, ProbeEvent, Target};
use crate::subjects::EventsTable;

const POST_EVERY: Duration = Duration::from_millis(40);
/// The time between two queries for an event is this at first, and later a part of the time since its answer,
/// so that the queries for many stale events do not become a load themselves.
const QUERY_EVERY_MIN: Duration = Duration::from_millis(1);
const QUERY_EVERY_PART: u32 = 25;
/// Events that are queried for concurrently. While more are stale, posting pauses.
const STALE_MAX: usize = 512;

/// Probes until `stopped` is true, and returns the times from answers until events could be read. Only events
/// answered after `measured_from` are included. `accepted` counts all events.
///
/// # Errors
/// When the subject refuses an event, or the store cannot be queried.
pub async fn freshness(
    target: &Target,
    table: &EventsTable,
    accepted: &AtomicU64,
    measured_from: Instant,
    stopped: watch::Receiver<bool>,
) -> Result<LatencyHistogram, BenchError> {
    let (sender, posted) = mpsc::channel(STALE_MAX);
    let finding = find_all(table, measured_from, posted);
    let ((), freshness) = tokio::try_join!(post_all(target, accepted, sender, stopped), finding)?;
    Ok(freshness)
}

/// An event, and when it was answered.
type AnsweredEvent = (ProbeEvent, Instant);

async fn post_all(
    target: &Target,
    accepted: &AtomicU64,
    posted: mpsc::Sender<AnsweredEvent>,
    stopped: watch::Receiver<bool>,
) -> Result<(), BenchError> {
    let (mut client, mut ids) = (HttpClient::new(target.address), IdGenerator::new());
    let mut ticks = tokio::time::interval(POST_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        ticks.tick().await;
        let event = ProbeEvent::new(target, &mut ids);
        let answered = post(&mut client, target, &event).await?;
        accepted.fetch_add(1, Ordering::Relaxed);
        posted.send((event, answered)).await?;
    }
    Ok(())
}

/// Returns when an event was answered.
async fn post(client: &mut HttpClient, target: &Target, event: &ProbeEvent) -> Result<Instant, BenchError> {
    let authorization = format!("Bearer {}", target.key());
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let answer = client.post("/v1/events", &headers, event.body.clone()).await?;
    match answer.status {
        202 => Ok(Instant::now()),
        _ => Err(BenchError::new(format!("the subject must accept every probe, but answered {answer:?}"))),
    }
}

/// Queries for posted events, until the channel is closed and all events were found.
async fn find_all(
    table: &EventsTable,
    measured_from: Instant,
    mut posted: mpsc::Receiver<AnsweredEvent>,
) -> Result<LatencyHistogram, BenchError> {
    let mut freshness = LatencyHistogram::new();
    let mut stale = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some((event, answered)) = posted.recv(), if stale.len() < STALE_MAX => {
                stale.push(find(table, event, answered));
            }
            Some(found) = stale.next() => {
                let Freshness { answered, took } = found?;
                if answered >= measured_from {
                    freshness.record(took);
                }
            }
            else => return Ok(freshness),
        }
    }
}

struct Freshness {
    answered: Instant,
    /// From the answer until the event could be read.
    took: Duration,
}

/// Queries for an event until it can be read.
async fn find(table: &EventsTable, event: ProbeEvent, answered: Instant) -> Result<Freshness, BenchError> {
    while !table.is_visible(event.id, &event.time, event.time_us).await? {
        tokio::time::sleep((answered.elapsed() / QUERY_EVERY_PART).max(QUERY_EVERY_MIN)).await;
    }
    Ok(Freshness { answered, took: answered.elapsed() })
}
