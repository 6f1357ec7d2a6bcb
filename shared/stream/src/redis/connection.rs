//! The few connections that all calls of the hot path share, and the circuit breaker over them.
//!
//! Each connection has a keeper: a task that asks its route for the primary, connects, publishes the
//! connection in a slot, and starts again when it is lost. A server that does not answer in time, or that is
//! not the primary any more, opens the circuit for all connections. The first new connection to a primary
//! that answers closes it. While the circuit is open, every call fails without waiting, and says why the
//! last attempt to connect failed.
//!
//! Calls that block on the server have slots of their own, one for each shard.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::error::{ConnectionHealth, classify, connection_health, describe};
use super::route::Route;
use super::scripts::Script;
use super::shard_witness::LinkWitness;
use super::{client, server};
use crate::StreamError;
use crate::metrics::{STREAM_RECONNECTS, counted};

/// Longest wait for an answer. After it the outcome of the call is unknown.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a connection, and for the answer to its PING.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Short, so that an address that leads to another server is noticed within a second.
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// After a connection that lived this long, the backoff starts from its minimum again.
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// Capacity of the queue of one connection. When it is full, callers wait for a slot.
const QUEUE_CALLS: usize = 1_024;
/// Why connections to a server that answers are given up.
const PRIMARY_LEFT: &str = "the primary of the stream is another server now";
/// Bytes gathered for one write to the socket.
const WRITE_BYTES: usize = 256 << 10;

struct LiveConnection {
    connection: MultiplexedConnection,
    /// Unique to this connection.
    generation: u64,
    connected_at: Instant,
    place: Arc<ConnectionInfo>,
}

/// Holds one connection. It is empty while its keeper connects.
#[derive(Default)]
struct Slot {
    live: ArcSwapOption<LiveConnection>,
    /// Wakes the keeper.
    lost: Notify,
}

struct Shared {
    route: Route,
    /// The server that the newest connection leads to.
    place: ArcSwapOption<ConnectionInfo>,
    slots: Vec<Arc<Slot>>,
    /// For calls that block on the server: one for each shard, or none.
    blocking_slots: Vec<Arc<Slot>>,
    /// Asked about the server before a connection to it is used.
    witness: LinkWitness,
    /// Why the last attempt to connect failed.
    failure: ArcSwap<String>,
    /// Whether the first attempt to connect has ended.
    attempted: watch::Sender<bool>,
    /// When the server behind the address was last in doubt: every older connection may lead elsewhere.
    doubted_at: watch::Sender<Option<Instant>>,
    /// The last generation.
    generations: AtomicU64,
    /// Counts calls, so that they take the slots in turn.
    turn: AtomicUsize,
}

impl Shared {
    fn all_slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.slots.iter().chain(&self.blocking_slots)
    }

    /// The error while there is no connection.
    fn circuit_open(&self) -> StreamError {
        StreamError::Unavailable(self.failure.load().as_str().to_owned())
    }
}

/// The shared connections. Dropping it closes them.
pub(super) struct Connections {
    shared: Arc<Shared>,
    keepers: Vec<JoinHandle<()>>,
}

impl Connections {
    /// Starts connecting in the background. `blocking` connections are for calls that block on the server.
    pub(super) fn start(route: Route, connections: usize, blocking: u16, witness: LinkWitness) -> Self {
        let slots = (0..connections.max(1)).map(|_| Arc::new(Slot::default())).collect();
        let blocking_slots = (0..blocking).map(|_| Arc::new(Slot::default())).collect();
        let shared = Arc::new(Shared {
            route,
            place: ArcSwapOption::empty(),
            slots,
            blocking_slots,
            witness,
            failure: ArcSwap::from_pointee("connecting to Redis".to_owned()),
            attempted: watch::Sender::new(false),
            doubted_at: watch::Sender::new(None),
            generations: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
        });
        let keepers = shared
            .all_slots()
            .map(|slot| tokio::spawn(keep_connected(shared.clone(), slot.clone())))
            .collect();
        Self { shared, keepers }
    }

    /// The server that the connections lead to. It is the same allocation for as long as it is the same.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`] when the circuit is open; not counted.
    pub(super) fn place(&self) -> Result<Arc<ConnectionInfo>, StreamError> {
        let (_, live) = self.next_live()?;
        Ok(Arc::clone(&live.place))
    }

    /// Waits until the first attempt to connect has ended, so that a process that has just started does not
    /// report a fault. Later calls return immediately.
    pub(super) async fn attempted(&self) {
        let mut attempted = self.shared.attempted.subscribe();
        // Either way the caller looks for a connection next.
        drop(tokio::time::timeout(CONNECT_TIMEOUT, attempted.wait_for(|attempted| *attempted)).await);
    }

    /// Sends one command.
    ///
    /// # Errors
    /// [`StreamError`], not counted.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, StreamError> {
        Ok(self.try_send(command).await?)
    }

    /// Sends one EVALSHA. Loads the script and sends it again when the server does not have the script.
    ///
    /// # Errors
    /// [`StreamError`], counted.
    pub(super) async fn eval(&self, script: &Script, command: &Cmd) -> Result<Value, StreamError> {
        let mut answer = self.try_send(command).await;
        if answer.as_ref().is_err_and(SendError::is_no_script) {
            self.load(script).await.map_err(counted)?;
            answer = self.try_send(command).await;
        }
        answer.map_err(|error| counted(error.into()))
    }

    /// Sends one EVALSHA and a command that may block, in one write, on the connection of this shard that no
    /// other call uses. Loads the script and sends both again when the server does not have the script.
    /// Returns both answers; the second may be an error of the server.
    ///
    /// # Errors
    /// [`StreamError`] of the EVALSHA, counted.
    pub(super) async fn eval_and_block(
        &self,
        shard: u16,
        script: &Script,
        commands: &Pipeline,
    ) -> Result<[Value; 2], StreamError> {
        let mut answers = self.try_send_both(shard, commands).await;
        if answers.as_ref().is_err_and(SendError::is_no_script) {
            self.load(script).await.map_err(counted)?;
            answers = self.try_send_both(shard, commands).await;
        }
        answers.map_err(|error| counted(error.into()))
    }

    /// Loading a script changes nothing, also when its answer is lost.
    async fn load(&self, script: &Script) -> Result<(), StreamError> {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(&script.code);
        match self.send(&load).await {
            Ok(_) => Ok(()),
            Err(StreamError::Unknown(text)) => Err(StreamError::Unavailable(text)),
            Err(error) => Err(error),
        }
    }

    async fn try_send(&self, command: &Cmd) -> Result<Value, SendError> {
        let (slot, live) = self.next_live().map_err(SendError::CircuitOpen)?;
        let mut connection = live.connection.clone();
        let sent = Instant::now();
        let answer = command.query_async::<Value>(&mut connection).await;
        answer.map_err(|error| self.failed(slot, &live, sent, error))
    }

    async fn try_send_both(&self, shard: u16, commands: &Pipeline) -> Result<[Value; 2], SendError> {
        let slots = &self.shared.blocking_slots;
        // A link of one shard has one, whatever the number of the shard.
        let slot = slots.get(usize::from(shard) % slots.len().max(1));
        let live = slot.and_then(|slot| Some((slot, slot.live.load_full()?)));
        let (slot, live) = live.ok_or_else(|| SendError::CircuitOpen(self.shared.circuit_open()))?;
        let mut connection = live.connection.clone();
        let sent = Instant::now();
        let answers = match connection.send_packed_commands(commands, 0, 2).await {
            Ok(answers) => answers,
            Err(error) => return Err(self.failed(slot, &live, sent, error)),
        };
        let mut answers = answers.into_iter();
        let first = answers.next().unwrap_or_default().extract_error();
        let first = first.map_err(|error| self.failed(slot, &live, sent, error))?;
        Ok([first, answers.next().unwrap_or_default()])
    }

    /// Discards what the error shows to be unusable.
    fn failed(&self, slot: &Slot, live: &LiveConnection, sent: Instant, error: RedisError) -> SendError {
        match connection_health(&error) {
            ConnectionHealth::Usable => {}
            ConnectionHealth::Broken => slot.discard(live.generation),
            ConnectionHealth::Silent | ConnectionHealth::Demoted => self.give_up(sent, describe(&error)),
        }
        SendError::Redis(error)
    }

    /// The next slot in turn that has a connection.
    fn next_live(&self) -> Result<(&Slot, Arc<LiveConnection>), StreamError> {
        let slots = &self.shared.slots;
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        (0..slots.len())
            .find_map(|step| {
                let slot = &slots[turn.wrapping_add(step) % slots.len()];
                Some((&**slot, slot.live.load_full()?))
            })
            .ok_or_else(|| self.shared.circuit_open())
    }

    /// Whether a connection of this age may lead to another server than the address does now.
    pub(super) fn is_doubted(&self, connected_at: Instant) -> bool {
        self.shared.doubted_at.borrow().is_some_and(|doubted_at| connected_at <= doubted_at)
    }

    /// Returns when a connection of this age may lead to another server than the address does now.
    pub(super) async fn doubted(&self, connected_at: Instant) {
        let mut doubted_at = self.shared.doubted_at.subscribe();
        let is_doubted = |at: &Option<Instant>| at.is_some_and(|doubted_at| connected_at <= doubted_at);
        // The sender lives as long as self.
        drop(doubted_at.wait_for(is_doubted).await);
    }

    /// Discards every connection that is not newer than a call that got no answer, or was answered by a
    /// server that is not the primary. Other users of the server must do the same: see
    /// [`Connections::is_doubted`].
    pub(super) fn give_up(&self, sent: Instant, reason: String) {
        self.shared.give_up(sent, reason);
    }
}

impl Shared {
    fn give_up(&self, sent: Instant, reason: String) {
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
    fn doubt(&self, at: Instant) {
        self.doubted_at.send_if_modified(|doubted_at| {
            let is_later = doubted_at.is_none_or(|doubted_at| doubted_at < at);
            if is_later {
                *doubted_at = Some(at);
            }
            is_later
        });
    }

    /// Records where a new connection leads. Connections to another server are given up.
    fn lead_to(&self, primary: ConnectionInfo) -> Arc<ConnectionInfo> {
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

impl Drop for Connections {
    fn drop(&mut self) {
        for keeper in &self.keepers {
            keeper.abort();
        }
        for slot in self.shared.all_slots() {
            slot.live.store(None);
        }
    }
}

enum SendError {
    /// Nothing was sent.
    CircuitOpen(StreamError),
    /// The command was sent.
    Redis(RedisError),
}

impl SendError {
    fn is_no_script(&self) -> bool {
        let no_script = ErrorKind::Server(ServerErrorKind::NoScript);
        matches!(self, Self::Redis(error) if error.kind() == no_script)
    }
}

impl From<SendError> for StreamError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::CircuitOpen(error) => error,
            SendError::Redis(error) => classify(&error),
        }
    }
}

impl Slot {
    /// Empties the slot, if this connection is still in it.
    fn discard(&self, generation: u64) {
        let current = self.live.load();
        if current.as_ref().is_some_and(|live| live.generation == generation) {
            self.live.compare_and_swap(&current, None);
            self.lost.notify_one();
        }
    }
}

/// Reconnects one slot whenever its connection is lost, until the task is aborted.
async fn keep_connected(shared: Arc<Shared>, slot: Arc<Slot>) {
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
                let connected = shared.all_slots().any(|slot| slot.live.load().is_some());
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
    let client = client::shared(&primary).map_err(|error| describe(&error))?;
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connecting.await.map_err(|error| describe(&error))?;
    let user = primary.redis_settings();
    let sole_password = user.password().filter(|_| user.username().is_none());
    server::check(&mut connection, sole_password, shared.route.discovery()).await?;
    shared.witness.inspect(&connection).await?;
    connection.set_response_timeout(RESPONSE_TIMEOUT);
    let connected_at = Instant::now();
    if shared.route.has_left(&primary) {
        return Err(PRIMARY_LEFT.to_owned());
    }
    let place = shared.lead_to(primary);
    Ok(LiveConnection { connection, generation, connected_at, place })
}
