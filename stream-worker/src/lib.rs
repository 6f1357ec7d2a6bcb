//! The drain: reads what the stream holds, writes it into the store, settles it.
//!
//! A [`lane`] is the whole worker and shares nothing with other lanes; more lanes or more processes is the scaling.
//! [`upkeep`] is everything that is not on an event's path. This crate must never settle an entry before its transaction
//! is committed, never drop one, and never decide by the clock that an event is bad.

pub mod backoff;
pub mod config;
pub mod lane;
pub mod load;
pub mod poison;
pub mod upkeep;

use std::sync::Arc;

use futures_util::future::join_all;
use shared::store::SharedStore;
use shared::stream::SharedStream;
use tokio::sync::watch;
use uuid::Uuid;

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
    let life = Uuid::new_v4().simple().to_string();
    let upkeep = Upkeep::new(Arc::clone(&stream), Arc::clone(&store), Arc::clone(&settings));
    let (asked, mut epoch_asked) = watch::channel(false);
    let upkeep = tokio::spawn(upkeep.run(asked, shutdown.clone()));
    // A lane that knows no epoch commits what it cannot settle; told to stop just then, it would leave it to others.
    tokio::select! {
        _ = epoch_asked.wait_for(|asked| *asked) => {}
        () = backoff::stopped(&mut shutdown) => {}
    }
    let mut lanes = Vec::new();
    for shard in 0..stream.shards() {
        for number in 0..settings.lanes {
            // Unique to this lane of this life: a name is never used by two that live at once.
            let name = format!("{}-{}-s{shard}l{number}", std::process::id(), &life[..12]);
            let lane = Lane::new(
                name,
                shard,
                Arc::clone(&stream),
                Arc::clone(&store),
                Arc::clone(&settings),
                shutdown.clone(),
            );
            lanes.push(tokio::spawn(lane.run()));
        }
    }
    tracing::info!(lanes = lanes.len(), "{} lanes are draining the stream", lanes.len());
    for ended in join_all(lanes).await {
        if let Err(error) = ended {
            tracing::error!(%error, "a lane has ended by a panic: {error}");
        }
    }
    if let Err(error) = upkeep.await {
        tracing::error!(%error, "upkeep has ended by a panic: {error}");
    }
}
