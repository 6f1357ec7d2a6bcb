//! The worker: reads entries from the stream, writes them into the store, settles them.
//!
//! A [`lane`] does all of it and shares nothing with other lanes, so throughput grows with lanes and
//! processes. [`upkeep`] is the work that is not on an event's path. This crate must never settle an entry
//! before its transaction is committed, never drop one, and never decide by the clock that an event is bad.

pub mod backoff;
pub mod config;
mod deps;
pub mod held;
pub mod lane;
mod lane_error;
pub mod metrics;
pub mod quarantine;
pub mod readiness;
pub mod requests;
pub mod settlement;
pub mod transaction;
pub mod upkeep;
pub mod webhook;

use futures_util::future::join_all;
use millrace_reconcile::health::ShardHealth;
use tokio::sync::watch;
use uuid::Uuid;

use crate::backoff::{Backoff, stopped};
pub use crate::deps::Deps;
use crate::lane::Lane;
use crate::metrics::Task;

/// Runs every lane and the upkeep until `shutdown` is true, then finishes the transactions that are under
/// way.
pub async fn run(deps: Deps, shutdown: watch::Receiver<bool>) {
    let upkeep = {
        let (deps, shutdown) = (deps.clone(), shutdown.clone());
        move || upkeep::run(deps.clone(), shutdown.clone())
    };
    let upkeep = tokio::spawn(supervise(Task::Upkeep, upkeep, shutdown.clone()));
    tracing::info!("waiting for the stream's epoch to be confirmed");
    join_all(deps.stream_health.shards().iter().map(|health| serve_shard(&deps, health, &shutdown))).await;
    if let Err(panic) = upkeep.await {
        tracing::error!(%panic, "upkeep supervisor panicked");
    }
}

/// Runs the lanes of one shard from the moment when its epoch is trusted. Without a trusted epoch a lane
/// would commit entries that it cannot settle.
async fn serve_shard(deps: &Deps, health: &ShardHealth, shutdown: &watch::Receiver<bool>) {
    let mut stopping = shutdown.clone();
    tokio::select! {
        biased;
        () = stopped(&mut stopping) => {}
        () = health.epoch_trusted() => drain(deps, health.number(), shutdown).await,
    }
}

/// Runs every lane of the shard until `shutdown` is true.
async fn drain(deps: &Deps, shard: u16, shutdown: &watch::Receiver<bool>) {
    let process_id = std::process::id();
    let suffix = Uuid::new_v4().simple().to_string();
    let lanes = (0..deps.settings.lanes).map(|number| {
        // Unique to this lane of this run of the process: two live consumers must never share a name.
        let name = format!("{process_id}-{}-s{shard}l{number}", &suffix[..12]);
        let (deps, stopping) = (deps.clone(), shutdown.clone());
        let lane = move || Lane::new(name.clone(), shard, deps.clone(), stopping.clone()).run();
        supervise(Task::Lane, lane, shutdown.clone())
    });
    tracing::info!(shard, lanes = deps.settings.lanes, "lanes are draining the stream");
    join_all(lanes).await;
}

/// Runs the task that `start` returns until it ends, and starts it again after a panic. A process that lost
/// one lane after the other would look alive and drain nothing. A lane that is started again finds the
/// entries it held under its name, and an entry that makes lanes panic repeatedly is quarantined like one
/// that ends processes.
async fn supervise<F: Future<Output = ()> + Send + 'static>(
    task: Task,
    start: impl Fn() -> F,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::new(match task {
        Task::Lane => "a lane",
        Task::Upkeep => "upkeep",
    });
    while let Err(panic) = tokio::spawn(start()).await {
        metrics::restarted(task);
        if !backoff.wait(&panic, &mut shutdown).await {
            return;
        }
    }
}
