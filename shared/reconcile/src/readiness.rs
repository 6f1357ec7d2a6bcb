//! Whether a process can do its work, as `GET /readyz` of every program answers it.
//!
//! Anyone may read the answers: a reason must never contain an address, a password or a key.

use futures_util::future::join_all;
use millrace_stream::{Durability, SharedStream};
use serde::Serialize;

use crate::health::{ShardHealth, StreamHealth};

const OK: &str = "ok";

/// The answer of one process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Readiness {
    ready: bool,
    reasons: Vec<String>,
    dependencies: Dependencies,
}

/// `ok` for each, or why it cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Dependencies {
    stream: String,
    store: String,
}

impl Readiness {
    /// A process is ready when nothing of its `own` is against it, and it can use at least one shard of the
    /// stream: otherwise the loss of one server would stop all of them. `store` says why the store cannot be
    /// used, which is no reason by itself, because not every process needs it.
    pub fn new(own: Vec<String>, stream: &StreamFaults, store: Option<String>) -> Self {
        let of_stream = &stream.reasons;
        let dependencies = Dependencies {
            stream: if of_stream.is_empty() { OK.to_owned() } else { of_stream.join("; ") },
            store: store.unwrap_or_else(|| OK.to_owned()),
        };
        let ready = own.is_empty() && !stream.is_total;
        Self { ready, reasons: own.into_iter().chain(of_stream.iter().cloned()).collect(), dependencies }
    }

    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The body of the answer.
    ///
    /// # Panics
    /// Never: texts can always be written as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts can be written as JSON")
    }
}

/// What a process needs of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// To read and to settle.
    Epoch,
    /// To admit: acknowledged batches must also be as durable as the settings demand.
    Durability,
}

/// Why shards cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamFaults {
    /// Those of some shards name them.
    pub reasons: Vec<String>,
    /// No shard can be used.
    pub is_total: bool,
}

impl StreamFaults {
    /// The same fault of every shard.
    pub fn of_all(reason: &str) -> Self {
        Self { reasons: vec![reason.to_owned()], is_total: true }
    }
}

/// Asks every shard, all of them together.
pub async fn stream_faults(stream: &SharedStream, health: &StreamHealth, needs: Needs) -> StreamFaults {
    let shards = health.shards().iter();
    of_shards(&join_all(shards.map(|health| shard_reasons(stream, health, needs))).await)
}

/// Reasons that all shards have are about the stream. Others name their shards.
fn of_shards(shards: &[Vec<String>]) -> StreamFaults {
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

async fn shard_reasons(stream: &SharedStream, health: &ShardHealth, needs: Needs) -> Vec<String> {
    let mut reasons = Vec::new();
    let answered = stream.epoch(health.number()).await;
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
    if needs == Needs::Durability && !health.is_durable_enough() {
        let reason = match health.demanded() {
            Durability::Replicated { .. } => "the stream has not confirmed that its replicas keep up with it",
            Durability::Strict | Durability::Relaxed => {
                "the stream has not confirmed that every write is on disk before it answers"
            }
        };
        let fault = health.durability_fault();
        reasons.push(fault.map_or_else(|| reason.to_owned(), |fault| format!("{reason}: {fault}")));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_while_one_shard_can_take_batches_and_names_the_others() {
        let away = || vec!["away".to_owned()];
        let shown = |shards: &[Vec<String>]| {
            let faults = of_shards(shards);
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
