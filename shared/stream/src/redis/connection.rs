//! The few connections that all calls of the hot path share, and the circuit breaker over them.
//!
//! Each connection has a keeper: a task that connects, publishes the connection in a slot, and reconnects
//! when it is lost. A server that does not answer in time, or that is not the primary any more, opens the
//! circuit for all connections. The first new connection to a primary that answers closes it. While the
//! circuit is open, every call fails without waiting, and says why the last attempt to connect failed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2};
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ProtocolVersion, RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::error::{ConnectionHealth, classify, connection_health, describe};
use super::scripts::Script;
use super::server;
use super::source::RedisSource;
use crate::StreamError;
use crate::metrics::{STREAM_CONNECTED, STREAM_RECONNECTS, counted};

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
/// Bytes gathered for one write to the socket.
const WRITE_BYTES: usize = 256 << 10;

/// Two clients of the same server, from the settings as they are now: one for shared connections, which RESP3
/// notifies when they are lost, and one for connections with a single user.
///
/// # Errors
/// Why the settings cannot be used.
pub(super) fn clients(source: &RedisSource) -> Result<(Client, Client), String> {
    let address = source.read()?;
    open_clients(address.fixed()).map_err(|error| error.to_string())
}

fn open_clients(info: &ConnectionInfo) -> Result<(Client, Client), RedisError> {
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(5));
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(Duration::from_secs(10));
    let info = info.clone().set_tcp_settings(tcp);
    let settings = info.redis_settings().clone();
    let shared = info.clone().set_redis_settings(settings.clone().set_protocol(ProtocolVersion::RESP3));
    let single = info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP2));
    Ok((Client::open(shared)?, Client::open(single)?))
}

struct LiveConnection {
    connection: MultiplexedConnection,
    /// Unique to this connection.
    generation: u64,
    connected_at: Instant,
}

/// Holds one connection. It is empty while its keeper connects.
#[derive(Default)]
struct Slot {
    live: ArcSwapOption<LiveConnection>,
    /// Wakes the keeper.
    lost: Notify,
}

struct Shared {
    source: RedisSource,
    slots: Vec<Arc<Slot>>,
    /// Why the last attempt to connect failed.
    failure: ArcSwap<String>,
    /// Whether the first attempt to connect has ended.
    attempted: watch::Sender<bool>,
    /// When the server behind the address was last in doubt: every older connection may lead elsewhere.
    doubted_at: ArcSwapOption<Instant>,
    /// The last generation.
    generations: AtomicU64,
    /// Counts calls, so that they take the slots in turn.
    turn: AtomicUsize,
}

/// The shared connections. Dropping it closes them.
pub(super) struct Connections {
    shared: Arc<Shared>,
    keepers: Vec<JoinHandle<()>>,
}

impl Connections {
    /// Starts connecting in the background.
    pub(super) fn start(source: RedisSource, connections: usize) -> Self {
        let slots = (0..connections.max(1)).map(|_| Arc::new(Slot::default())).collect();
        let shared = Arc::new(Shared {
            source,
            slots,
            failure: ArcSwap::from_pointee("connecting to Redis".to_owned()),
            attempted: watch::Sender::new(false),
            doubted_at: ArcSwapOption::empty(),
            generations: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
        });
        // Before the first task that can set it to 1.
        STREAM_CONNECTED.set(0.0);
        let keepers = shared
            .slots
            .iter()
            .map(|slot| tokio::spawn(keep_connected(shared.clone(), slot.clone())))
            .collect();
        Self { shared, keepers }
    }

    /// # Errors
    /// [`StreamError::Unavailable`] when the circuit is open; not counted.
    pub(super) fn check_circuit(&self) -> Result<(), StreamError> {
        self.next_live().map(drop)
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
        self.try_send(command).await.map_err(|error| match error {
            SendError::CircuitOpen(error) => error,
            SendError::Redis(error) => classify(&error),
        })
    }

    /// Sends one EVALSHA. Loads the script and sends it again when the server does not have the script.
    ///
    /// # Errors
    /// [`StreamError`], counted.
    pub(super) async fn eval(&self, script: &Script, command: &Cmd) -> Result<Value, StreamError> {
        match self.try_send(command).await {
            Ok(value) => Ok(value),
            Err(SendError::Redis(error))
                if error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript) =>
            {
                let mut load = redis::cmd("SCRIPT");
                load.arg("LOAD").arg(&script.code);
                match self.send(&load).await {
                    Ok(_) => self.send(command).await.map_err(counted),
                    Err(StreamError::Unknown(text)) => Err(counted(StreamError::Unavailable(text))),
                    Err(error) => Err(counted(error)),
                }
            }
            Err(SendError::CircuitOpen(error)) => Err(counted(error)),
            Err(SendError::Redis(error)) => Err(counted(classify(&error))),
        }
    }

    async fn try_send(&self, command: &Cmd) -> Result<Value, SendError> {
        let (slot, live) = self.next_live().map_err(SendError::CircuitOpen)?;
        let mut connection = live.connection.clone();
        let sent = Instant::now();
        let error = match command.query_async::<Value>(&mut connection).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match connection_health(&error) {
            ConnectionHealth::Usable => {}
            ConnectionHealth::Broken => slot.discard(live.generation),
            ConnectionHealth::Silent | ConnectionHealth::Demoted => self.give_up(sent, describe(&error)),
        }
        Err(SendError::Redis(error))
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
            .ok_or_else(|| StreamError::Unavailable(self.shared.failure.load().as_str().to_owned()))
    }

    /// Whether a connection of this age may lead to another server than the address does now.
    pub(super) fn is_doubted(&self, connected_at: Instant) -> bool {
        self.shared.doubted_at.load().as_ref().is_some_and(|doubted_at| connected_at <= **doubted_at)
    }

    /// Discards every connection that is not newer than a call that got no answer, or was answered by a
    /// server that is not the primary. Other users of the server must do the same: see
    /// [`Connections::is_doubted`].
    pub(super) fn give_up(&self, sent: Instant, reason: String) {
        self.shared.failure.store(Arc::new(reason));
        self.shared.doubted_at.store(Some(Arc::new(sent)));
        for slot in &self.shared.slots {
            if let Some(live) = slot.live.load_full()
                && live.connected_at <= sent
            {
                slot.discard(live.generation);
            }
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for keeper in &self.keepers {
            keeper.abort();
        }
        for slot in &self.shared.slots {
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
                shared.failure.store(Arc::new("the connection to Redis was lost".to_owned()));
                slot.live.store(Some(Arc::new(live)));
                shared.attempted.send_replace(true);
                STREAM_CONNECTED.set(1.0);
                slot.lost.notified().await;
                slot.live.store(None);
                let connected = shared.slots.iter().any(|slot| slot.live.load().is_some());
                STREAM_CONNECTED.set(f64::from(connected));
                if !connected {
                    shared.doubted_at.store(Some(Arc::new(Instant::now())));
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

/// Connects, and checks that the server can be used. The error says why not.
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
    let (client, _) = clients(&shared.source)?;
    let settings = client.get_connection_info().redis_settings();
    // Of a URL with a password and no user.
    let sole_password = settings.password().filter(|_| settings.username().is_none());
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connecting.await.map_err(|error| describe(&error))?;
    server::check(&mut connection, sole_password).await?;
    connection.set_response_timeout(RESPONSE_TIMEOUT);
    Ok(LiveConnection { connection, generation, connected_at: Instant::now() })
}
