//! Keeps one slot connected: finds the primary, connects, checks the server, publishes the connection, and
//! starts again when it is lost.
//!
//! This module must never publish a connection to a server that was not checked.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use redis::AsyncConnectionConfig;

use super::error::describe_new;
use super::slot::{CONNECT_TIMEOUT, LiveConnection, PRIMARY_LEFT, RESPONSE_TIMEOUT, Shared, Slot};
use super::{client, server};
use crate::metrics::STREAM_RECONNECTS;

const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Short, so that an address that leads to another server is noticed within a second.
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// After a connection that lived this long, the backoff starts from its minimum again.
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// Capacity of the queue of one connection. When it is full, callers wait for a slot.
const QUEUE_CALLS: usize = 1_024;
/// Bytes gathered for one write to the socket.
const WRITE_BYTES: usize = 256 << 10;

/// Reconnects one slot whenever its connection is lost, until the task is aborted.
pub(super) async fn keep_connected(shared: Arc<Shared>, slot: Arc<Slot>) {
    let mut backoff = BACKOFF_MIN;
    let mut connected_before = false;
    loop {
        match connect(&shared, &slot).await {
            Ok(live) => {
                if connected_before {
                    STREAM_RECONNECTS.increment(1);
                }
                connected_before = true;
                let connected_at = live.connected_at;
                let live = Arc::new(live);
                shared.failure.store(Arc::new("the connection to Redis was lost".to_owned()));
                slot.live.store(Some(Arc::clone(&live)));
                shared.attempted.send_replace(true);
                shared.route.record_connected(true);
                until_lost(&shared, &slot, &live).await;
                drop(live);
                slot.live.store(None);
                let connected = shared.all_slots().iter().any(|slot| slot.live.load().is_some());
                shared.route.record_connected(connected);
                if !connected {
                    shared.doubt(Instant::now());
                }
                tracing::debug!(connected, "lost a connection to Redis");
                if connected_at.elapsed() >= STABLE_AFTER {
                    backoff = BACKOFF_MIN;
                    continue;
                }
            }
            // Every call fails with this reason, and the checks of the stream log it.
            Err(reason) => {
                tracing::debug!(%reason, "cannot connect to Redis");
                shared.failure.store(Arc::new(reason));
                shared.attempted.send_replace(true);
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Returns when the connection of this slot is lost. Gives all connections up when the primary is found
/// elsewhere, however well this server answers.
async fn until_lost(shared: &Shared, slot: &Slot, live: &LiveConnection) {
    loop {
        tokio::select! {
            biased;
            () = slot.lost.notified() => return,
            found_at = shared.route.left(&live.place) => {
                tracing::info!("the primary of the stream is another server now");
                shared.give_up(found_at, PRIMARY_LEFT.to_owned());
                // It may have been made while the lookup ended.
                slot.discard(live.generation);
            }
        }
    }
}

/// Connects to the primary, and checks that it can be used. The error says why not.
async fn connect(shared: &Shared, slot: &Arc<Slot>) -> Result<LiveConnection, String> {
    let generation = shared.generations.fetch_add(1, Ordering::Relaxed) + 1;
    let weak_slot: Weak<Slot> = Arc::downgrade(slot);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CONNECT_TIMEOUT))
        .set_pipeline_buffer_size(QUEUE_CALLS)
        .set_write_backpressure_boundary(WRITE_BYTES)
        .set_push_sender(move |push: redis::PushInfo| {
            if push.kind == redis::PushKind::Disconnection
                && let Some(slot) = weak_slot.upgrade()
            {
                slot.discard(generation);
            }
            Ok::<(), redis::aio::SendError>(())
        });
    let primary = shared.route.primary().await?;
    let told = |error| describe_new(&error, &primary);
    let client = client::shared(&primary).map_err(told)?;
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connecting.await.map_err(told)?;
    server::check(&mut connection, &primary, shared.route.discovery()).await?;
    shared.witness.inspect(&connection).await?;
    connection.set_response_timeout(RESPONSE_TIMEOUT);
    let connected_at = Instant::now();
    if shared.route.has_left(&primary) {
        return Err(PRIMARY_LEFT.to_owned());
    }
    let place = shared.lead_to(primary);
    Ok(LiveConnection { connection, generation, connected_at, place })
}
