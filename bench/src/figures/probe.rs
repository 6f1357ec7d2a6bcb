//! How fresh the table is: posts an event now and then, and looks for it until it is there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use testkit::http::HttpClient;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::load::{Identities, Latency, Marked, Target};
use crate::subjects::Table;

/// Between two probes.
const PAUSE: Duration = Duration::from_millis(30);
/// Between two looks; what is told is exact to about this much more.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Probes until told to stop, and returns how long events took from their answer until they could be read. Only those
/// count that were accepted from `from` on.
pub async fn probe(
    target: &Target,
    table: &Table,
    accepted: &AtomicU64,
    from: Instant,
    stopped: watch::Receiver<bool>,
) -> Result<Latency, Failure> {
    let mut freshness = Latency::new();
    let mut client = HttpClient::new(target.address);
    let mut ids = Identities::new();
    let authorization = format!("Bearer {}", target.key);
    while !*stopped.borrow() {
        let event = Marked::new(target, &mut ids);
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let answer = client.post("/v1/events", &headers, event.body).await?;
        if answer.status != 202 {
            return Err(Failure::new(format!("a probe was answered {answer:?}")));
        }
        let answered = Instant::now();
        accepted.fetch_add(1, Ordering::Relaxed);
        while !table.is_visible(event.id, &event.time, event.time_us).await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if answered >= from {
            freshness.record(answered.elapsed());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(freshness)
}
