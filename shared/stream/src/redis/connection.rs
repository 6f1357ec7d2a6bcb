//! The few connections that all calls of the hot path share, and the circuit breaker over them.
//!
//! Each connection has a keeper: a task that connects, publishes the connection in a slot, and reconnects
//! when it is lost. A server that does not answer in time opens the circuit for all connections. The first
//! new connection that answers a PING closes it. While the circuit is open, every call fails without waiting.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2};
use redis::{AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, ProtocolVersion, RedisError, Value};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::error::{ConnectionHealth, classify, connection_health};
use super::scripts::Script;
use crate::StreamError;
use crate::metrics::{STREAM_CONNECTED, STREAM_RECONNECTS, counted};

/// Longest wait for an answer. After it the outcome of the call is unknown.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a connection, and for the answer to its PING.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// After a connection that lived this long, the backoff starts from its minimum again.
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// Capacity of the queue of one connection. When it is full, callers wait for a slot.
const QUEUE_CALLS: usize = 1_024;
/// Bytes gathered for one write to the socket.
const WRITE_BYTES: usize = 256 << 10;

/// Two clients of the same server: one for shared connections, which RESP3 notifies when they are lost, and
/// one for connections with a single user.
pub(super) fn clients(url: &str) -> Result<(Client, Client), RedisError> {
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(5));
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(Duration::from_secs(10));
    let info = url.into_connection_info()?.set_tcp_settings(tcp);
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
    client: Client,
    slots: Vec<Arc<Slot>>,
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
    pub(super) fn start(client: Client, connections: usize) -> Self {
        let slots = (0..connections.max(1)).map(|_| Arc::new(Slot::default())).collect();
        let shared =
            Arc::new(Shared { client, slots, generations: AtomicU64::new(0), turn: AtomicUsize::new(0) });
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
            ConnectionHealth::Silent => self.open_circuit(sent),
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
            .ok_or_else(|| StreamError::Unavailable("not connected".to_owned()))
    }

    /// Discards every connection that is not newer than a call that got no answer.
    fn open_circuit(&self, sent: Instant) {
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
                slot.live.store(Some(Arc::new(live)));
                STREAM_CONNECTED.set(1.0);
                slot.lost.notified().await;
                slot.live.store(None);
                let connected = shared.slots.iter().any(|slot| slot.live.load().is_some());
                STREAM_CONNECTED.set(f64::from(connected));
                tracing::warn!(connected, "lost a connection to Redis");
                if connected_at.elapsed() >= STABLE_AFTER {
                    backoff = BACKOFF_MIN;
                    continue;
                }
            }
            // Only the first of a series of errors is a warning, which is enough to show a wrong password.
            Err(error) if backoff == BACKOFF_MIN => {
                tracing::warn!(%error, "cannot connect to Redis");
            }
            Err(error) => tracing::debug!(%error, "still cannot connect to Redis"),
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Connects, and checks that the server answers a PING.
async fn connect(shared: &Shared, slot: &Arc<Slot>) -> Result<LiveConnection, RedisError> {
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
    let mut connection = shared.client.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("PING").query_async::<()>(&mut connection).await?;
    connection.set_response_timeout(RESPONSE_TIMEOUT);
    Ok(LiveConnection { connection, generation, connected_at: Instant::now() })
}
