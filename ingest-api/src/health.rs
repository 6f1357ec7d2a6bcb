//! `GET /healthz`: the process is alive. `GET /readyz`: a batch sent now would be accepted, if it belongs to
//! a shard that has no fault. While one shard can take batches, the process must stay in the load balancer.
//!
//! Anyone may read the answers: a reason must never contain an address, a password or a key.

use futures_util::future::join_all;
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use millrace_reconcile::health::{Durability, ShardHealth};
use serde::Serialize;

use crate::answer::{self, Answer};
use crate::service::Service;

const OK: &str = "ok";

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
    dependencies: Dependencies,
}

/// `ok` for each, or why it cannot be used.
#[derive(Serialize)]
struct Dependencies {
    stream: String,
    store: String,
}

/// Always 200.
pub fn alive() -> Answer {
    answer::json_text(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// 200, or 503 with the reasons. With 200, the reasons name the shards that cannot take batches.
pub async fn ready(service: &Service) -> Answer {
    let stream = stream_faults(service).await;
    let store = service.accounts.fault();
    let mut reasons = own_reasons(service);
    let ready = reasons.is_empty() && !stream.is_total;
    reasons.extend(stream.reasons.iter().cloned());
    let dependencies = Dependencies {
        stream: if stream.reasons.is_empty() { OK.to_owned() } else { stream.reasons.join("; ") },
        store: store.unwrap_or_else(|| OK.to_owned()),
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = answer::json(status, &Readiness { ready, reasons, dependencies });
    if !ready {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// The reasons why a batch sent now would be refused, or one of some shards; empty when every one would be
/// accepted. An unreachable store is not a reason, because batches are accepted without it.
pub async fn reasons(service: &Service) -> Vec<String> {
    let mut reasons = own_reasons(service);
    reasons.extend(stream_faults(service).await.reasons);
    reasons
}

fn own_reasons(service: &Service) -> Vec<String> {
    let mut reasons = Vec::new();
    if service.draining() {
        reasons.push("the server is stopping".to_owned());
    }
    if !service.accounts.loaded() {
        reasons.push(because("the server has not read the keys yet", service.accounts.fault()));
    }
    reasons
}

/// Why shards cannot take batches.
struct StreamFaults {
    reasons: Vec<String>,
    /// No shard can take batches.
    is_total: bool,
}

async fn stream_faults(service: &Service) -> StreamFaults {
    let shards = service.stream_health.shards().iter();
    of_all_shards(&join_all(shards.map(|health| shard_reasons(service, health))).await)
}

/// Reasons that all shards have are about the stream. Others name their shards.
fn of_all_shards(shards: &[Vec<String>]) -> StreamFaults {
    let is_total = shards.iter().all(|reasons| !reasons.is_empty());
    let mut by_reason: Vec<(&str, Vec<String>)> = Vec::new();
    for (shard, reasons) in shards.iter().enumerate() {
        for reason in reasons {
            match by_reason.iter_mut().find(|(known, _)| known == reason) {
                Some((_, of)) => of.push(shard.to_string()),
                None => by_reason.push((reason, vec![shard.to_string()])),
            }
        }
    }
    let name = |(reason, of): (&str, Vec<String>)| match of.len() {
        count if count == shards.len() => reason.to_owned(),
        1 => format!("shard {}: {reason}", of[0]),
        _ => format!("shards {}: {reason}", of.join(", ")),
    };
    StreamFaults { reasons: by_reason.into_iter().map(name).collect(), is_total }
}

async fn shard_reasons(service: &Service, health: &ShardHealth) -> Vec<String> {
    let mut reasons = Vec::new();
    let answered = service.stream.epoch(health.number()).await;
    match (answered, health.stream_fault()) {
        (Err(error), _) => reasons.push(format!("the stream cannot be reached: {}", error.reason())),
        (Ok(_), Some(fault)) => reasons.push(format!("the stream cannot be used: {fault}")),
        (Ok(_), None) if !health.is_epoch_trusted() => reasons.push(match health.epoch_fault() {
            Some(fault) => format!("the stream's epoch is not confirmed: {fault}"),
            None => "the stream's epoch differs from the recorded one and its counters are not rebuilt yet"
                .to_owned(),
        }),
        (Ok(_), None) => {}
    }
    if !health.is_durable_enough() {
        let reason = match health.demanded() {
            Durability::Replicated { .. } => "the stream has not confirmed that its replicas keep up with it",
            Durability::Strict | Durability::Relaxed => {
                "the stream has not confirmed that every write is on disk before it answers"
            }
        };
        reasons.push(because(reason, health.durability_fault()));
    }
    reasons
}

fn because(reason: &str, fault: Option<String>) -> String {
    fault.map_or_else(|| reason.to_owned(), |fault| format!("{reason}: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_while_one_shard_can_take_batches_and_names_the_others() {
        let away = || vec!["away".to_owned()];
        let shown = |shards: &[Vec<String>]| {
            let faults = of_all_shards(shards);
            (faults.is_total, faults.reasons)
        };
        assert_eq!(shown(&[vec![]]), (false, vec![]));
        assert_eq!(shown(&[away()]), (true, away()));
        assert_eq!(shown(&[away(), away()]), (true, away()));
        assert_eq!(shown(&[vec![], away()]), (false, vec!["shard 1: away".to_owned()]));
        let full = || vec!["full".to_owned(), "away".to_owned()];
        let named = ["shards 0, 2: away", "shard 2: full"].map(str::to_owned).to_vec();
        assert_eq!(shown(&[away(), vec![], full()]), (false, named.clone()));
        let total = ["away", "shard 1: full"].map(str::to_owned).to_vec();
        assert_eq!(shown(&[away(), full()]), (true, total));
    }
}
