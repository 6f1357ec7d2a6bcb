//! The slots that hold the connections of one link, and what is known of the server they lead to.
//!
//! This module must never connect: the keeper of each slot does.

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::ConnectionInfo;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};

use super::route::Route;
use super::shard_witness::LinkWitness;
use crate::StreamError;

/// Longest wait for an answer. After it the outcome of the call is unknown.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a connection, and for the answer to its PING.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Why connections to a server that answers are given up.
pub(super) const PRIMARY_LEFT: &str = "the primary of the stream is another server now";

pub(super) struct LiveConnection {
    pub(super) connection: MultiplexedConnection,
    /// Unique to this connection.
    pub(super) generation: u64,
    pub(super) connected_at: Instant,
    pub(super) place: Arc<ConnectionInfo>,
}

/// Holds one connection. It is empty while its keeper connects.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) live: ArcSwapOption<LiveConnection>,
    /// Wakes the keeper.
    pub(super) lost: Notify,
}

pub(super) struct Shared {
    pub(super) route: Route,
    /// The server that the newest connection leads to.
    pub(super) place: ArcSwapOption<ConnectionInfo>,
    pub(super) slots: Vec<Arc<Slot>>,
    /// Of those that use a connection alone. They own their slots.
    pub(super) own_slots: Mutex<Vec<Weak<Slot>>>,
    /// Asked about the server before a connection to it is used.
    pub(super) witness: LinkWitness,
    /// Why the last attempt to connect failed.
    pub(super) failure: ArcSwap<String>,
    /// Whether the first attempt to connect has ended.
    pub(super) attempted: watch::Sender<bool>,
    /// When the server behind the address was last in doubt: every older connection may lead elsewhere.
    pub(super) doubted_at: watch::Sender<Option<Instant>>,
    /// The last generation.
    pub(super) generations: AtomicU64,
    /// Counts calls, so that they take the slots in turn.
    pub(super) turn: AtomicUsize,
}

impl Shared {
    pub(super) fn all_slots(&self) -> Vec<Arc<Slot>> {
        let own_slots = self.own_slots();
        self.slots.iter().cloned().chain(own_slots.iter().filter_map(Weak::upgrade)).collect()
    }

    /// Adds an empty slot that belongs to the caller.
    pub(super) fn add_own_slot(&self) -> Arc<Slot> {
        let slot = Arc::new(Slot::default());
        let mut own_slots = self.own_slots();
        own_slots.retain(|slot| slot.strong_count() > 0);
        own_slots.push(Arc::downgrade(&slot));
        slot
    }

    fn own_slots(&self) -> MutexGuard<'_, Vec<Weak<Slot>>> {
        self.own_slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error while there is no connection.
    pub(super) fn circuit_open(&self) -> StreamError {
        StreamError::Unavailable(self.failure.load().as_str().to_owned())
    }

    pub(super) fn give_up(&self, sent: Instant, reason: String) {
        self.failure.store(Arc::new(reason));
        self.doubt(sent);
        for slot in self.all_slots() {
            if let Some(live) = slot.live.load_full()
                && live.connected_at <= sent
            {
                slot.discard(live.generation);
            }
        }
    }

    /// Doubts all connections that are not newer.
    pub(super) fn doubt(&self, at: Instant) {
        self.doubted_at.send_if_modified(|doubted_at| {
            let is_later = doubted_at.is_none_or(|doubted_at| doubted_at < at);
            if is_later {
                *doubted_at = Some(at);
            }
            is_later
        });
    }

    /// Records where a new connection leads. Connections to another server are given up.
    pub(super) fn lead_to(&self, primary: ConnectionInfo) -> Arc<ConnectionInfo> {
        let before = self.place.load_full();
        match before {
            Some(place) if is_same(&place, &primary) => place,
            before => {
                let place = Arc::new(primary);
                self.place.store(Some(Arc::clone(&place)));
                if before.is_some() {
                    self.give_up(Instant::now(), PRIMARY_LEFT.to_owned());
                }
                place
            }
        }
    }
}

/// Whether both lead to the same server as the same user.
fn is_same(one: &ConnectionInfo, other: &ConnectionInfo) -> bool {
    let (user, other_user) = (one.redis_settings(), other.redis_settings());
    one.addr() == other.addr()
        && user.username() == other_user.username()
        && user.password() == other_user.password()
        && user.db() == other_user.db()
}

impl Slot {
    /// Empties the slot, if this connection is still in it.
    pub(super) fn discard(&self, generation: u64) {
        let current = self.live.load();
        if current.as_ref().is_some_and(|live| live.generation == generation) {
            self.live.compare_and_swap(&current, None);
            self.lost.notify_one();
        }
    }
}
