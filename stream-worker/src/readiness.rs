//! `GET /readyz` of a worker: entries that arrive now would be written and settled.
//!
//! Anyone who reaches the metrics address may read the answers: a reason must never contain an address, a
//! password or a key.

use std::sync::Arc;
use std::time::Duration;

use millrace_reconcile::readiness::{Needs, Readiness, StreamFaults, stream_faults};
use millrace_telemetry::scrape::{ReadinessAnswer, ReadinessCheck};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Deps;

/// How long the stream or the store may take to answer. Shorter than the patience of a prober.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// The check for the listener that serves metrics. `stopping` is true when the worker was asked to stop.
pub fn check(deps: Deps, stopping: watch::Receiver<bool>) -> ReadinessCheck {
    Arc::new(move || {
        let (deps, is_stopping) = (deps.clone(), *stopping.borrow());
        Box::pin(async move {
            let readiness = readiness(&deps, is_stopping).await;
            ReadinessAnswer { is_ready: readiness.is_ready(), json: readiness.to_json() }
        })
    })
}

/// A worker needs both: the stream to read and to settle, the store to write.
async fn readiness(deps: &Deps, is_stopping: bool) -> Readiness {
    let (stream, store) = tokio::join!(faults_of_stream(deps), store_fault(deps));
    let mut reasons = Vec::new();
    if is_stopping {
        reasons.push("the worker is stopping".to_owned());
    }
    reasons.extend(store.iter().map(|fault| format!("the store cannot be used: {fault}")));
    Readiness::new(reasons, &stream, store)
}

async fn faults_of_stream(deps: &Deps) -> StreamFaults {
    let asking = stream_faults(&deps.stream, &deps.stream_health, Needs::Epoch);
    let asked = timeout(ANSWER_TIME_MAX, asking).await;
    asked.unwrap_or_else(|_| StreamFaults::of_all("the stream does not answer"))
}

async fn store_fault(deps: &Deps) -> Option<String> {
    match timeout(ANSWER_TIME_MAX, deps.store.epoch(0)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.without_addresses()),
        Err(_) => Some("no answer in time".to_owned()),
    }
}
