//! The drain: reads what the stream holds, writes it into the store, settles it.
//!
//! A [`lane`] is the whole worker and shares nothing with other lanes; more lanes or more processes is the scaling.
//! [`upkeep`] is everything that is not on an event's path. This crate must never settle an entry before its transaction
//! is committed, never drop one, and never decide by the clock that an event is bad.

pub mod backoff;
pub mod config;
pub mod lane;
pub mod load;
pub mod metrics;
pub mod poison;
pub mod upkeep;

use std::sync::Arc;

use crate::metrics::Task;
use futures_util::future::join_all;
use millrace_store::SharedStore;
use millrace_stream::SharedStream;
use tokio::sync::watch;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::config::Settings;
use crate::lane::Lane;
use crate::upkeep::Upkeep;

/// Runs every lane and the upkeep until `shutdown` is true, then finishes the transactions that are under way.
pub async fn run(
    stream: SharedStream,
    store: SharedStore,
    settings: Arc<Settings>,
    mut shutdown: watch::Receiver<bool>,
) {
    let (known, mut epoch_known) = watch::channel(false);
    let upkeep = {
        let (stream, store, settings) = (Arc::clone(&stream), Arc::clone(&store), Arc::clone(&settings));
        let stopping = shutdown.clone();
        move || {
            Upkeep::new(Arc::clone(&stream), Arc::clone(&store), Arc::clone(&settings))
                .run(known.clone(), stopping.clone())
        }
    };
    let upkeep = tokio::spawn(keep_alive(Task::Upkeep, upkeep, shutdown.clone()));
    // A lane that knows no epoch would commit what it cannot settle. It can do nothing before both servers are there.
    tracing::info!("waiting until stream and store agree on the epoch");
    tokio::select! {
        _ = epoch_known.wait_for(|known| *known) => {}
        () = backoff::stopped(&mut shutdown) => {}
    }
    let life = Uuid::new_v4().simple().to_string();
    let mut lanes = Vec::new();
    for shard in 0..stream.shards() {
        for number in 0..settings.lanes {
            // Unique to this lane of this life: a name is never used by two that live at once.
            let name = format!("{}-{}-s{shard}l{number}", std::process::id(), &life[..12]);
            let (stream, store, settings) = (Arc::clone(&stream), Arc::clone(&store), Arc::clone(&settings));
            let stopping = shutdown.clone();
            let lane = move || {
                let (stream, store, settings) =
                    (Arc::clone(&stream), Arc::clone(&store), Arc::clone(&settings));
                Lane::new(name.clone(), shard, stream, store, settings, stopping.clone()).run()
            };
            lanes.push(keep_alive(Task::Lane, lane, shutdown.clone()));
        }
    }
    tracing::info!(lanes = lanes.len(), "{} lanes are draining the stream", lanes.len());
    join_all(lanes).await;
    if let Err(panic) = upkeep.await {
        tracing::error!(%panic, "what keeps the upkeep alive has died: {panic}");
    }
}

/// Runs what `make` makes until it ends by itself; after a panic, the next one in its place. A panic must cost one
/// attempt at what it held and no more: a process that goes on with fewer and fewer lanes looks alive and drains nothing.
/// What a panicked lane held it finds again under its name, and an entry that brings lanes down again and again is
/// convicted as one that brings processes down.
async fn keep_alive<F: Future<Output = ()> + Send + 'static>(
    task: Task,
    make: impl Fn() -> F,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::new(match task {
        Task::Lane => "a lane",
        Task::Upkeep => "upkeep",
    });
    while let Err(panic) = tokio::spawn(make()).await {
        metrics::restarted(task);
        if !backoff.wait(&panic, &mut shutdown).await {
            return;
        }
    }
}
