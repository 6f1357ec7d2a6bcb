//! The few connections that everything urgent shares, and the circuit breaker over them.
//!
//! Each connection has a keeper: a task that connects, hands the connection out, and connects again when it is lost.
//! A server that does not answer in time opens the circuit at once for all connections; it is closed by the first
//! connection that is made anew and answers a PING. While it is open every call fails without waiting.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2};
use redis::{AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, ProtocolVersion, RedisError, Value};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::error::{Health, counted, health, meaning};
use crate::StreamError;
use crate::metrics;

/// A call that is not answered in this time has an unknown outcome.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A server that cannot be reached in this time is not there.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lived as long was a good one: the next attempt starts from the shortest backoff.
const STEADY_AFTER: Duration = Duration::from_secs(1);
/// Calls that may queue for one connection before callers wait to be queued.
const QUEUE_CALLS: usize = 1_024;
/// Bytes gathered for one write to the socket.
const WRITE_BYTES: usize = 256 << 10;

/// Opens clients for the same server: one for shared connections, which is told when they are lost (RESP3), and one
/// for connections with a single user.
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

/// A connection in use.
struct Live {
    connection: MultiplexedConnection,
    generation: u64,
    born: Instant,
}

/// Where a keeper puts its connection.
#[derive(Default)]
struct Slot {
    live: ArcSwapOption<Live>,
    lost: Notify,
}

struct Shared {
    client: Client,
    slots: Vec<Arc<Slot>>,
    generations: AtomicU64,
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
        let keepers =
            shared.slots.iter().map(|slot| tokio::spawn(keep(shared.clone(), slot.clone()))).collect();
        metrics::stream_connected(false);
        Self { shared, keepers }
    }

    /// Whether the circuit is closed.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`] when it is open.
    pub(super) fn closed(&self) -> Result<(), StreamError> {
        self.pick().map(drop)
    }

    /// Sends one command.
    ///
    /// # Errors
    /// [`StreamError`], not counted yet.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, StreamError> {
        self.try_send(command).await.map_err(|failure| match failure {
            Failure::Open(error) => error,
            Failure::Redis(error) => meaning(&error),
        })
    }

    /// Sends one EVALSHA, loading the script first when the server has forgotten it.
    ///
    /// # Errors
    /// [`StreamError`], counted.
    pub(super) async fn eval(&self, script: &Script, command: &Cmd) -> Result<Value, StreamError> {
        match self.try_send(command).await {
            Ok(value) => Ok(value),
            Err(Failure::Redis(error))
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
            Err(Failure::Open(error)) => Err(counted(error)),
            Err(Failure::Redis(error)) => Err(counted(meaning(&error))),
        }
    }

    async fn try_send(&self, command: &Cmd) -> Result<Value, Failure> {
        let (slot, live) = self.pick().map_err(Failure::Open)?;
        let mut connection = live.connection.clone();
        let sent = Instant::now();
        let error = match command.query_async::<Value>(&mut connection).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match health(&error) {
            Health::Good => {}
            Health::Lost => slot.lose(live.generation),
            Health::Silent => self.lose_all(sent),
        }
        Err(Failure::Redis(error))
    }

    /// The next connection in turn that is there.
    fn pick(&self) -> Result<(&Slot, Arc<Live>), StreamError> {
        let slots = &self.shared.slots;
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        (0..slots.len())
            .find_map(|step| {
                let slot = &slots[turn.wrapping_add(step) % slots.len()];
                Some((&**slot, slot.live.load_full()?))
            })
            .ok_or_else(|| StreamError::Unavailable("not connected".to_owned()))
    }

    /// Opens the circuit: what was sent at this moment was not answered, so every connection that has not proved
    /// itself since is given up.
    fn lose_all(&self, sent: Instant) {
        for slot in &self.shared.slots {
            if let Some(live) = slot.live.load_full()
                && live.born <= sent
            {
                slot.lose(live.generation);
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

/// Why a command brought no value.
enum Failure {
    /// The circuit is open; nothing was sent.
    Open(StreamError),
    /// It was sent.
    Redis(RedisError),
}

impl Slot {
    /// Gives this connection up, if it is still the one in use.
    fn lose(&self, generation: u64) {
        let current = self.live.load();
        if current.as_ref().is_some_and(|live| live.generation == generation) {
            self.live.compare_and_swap(&current, None);
            self.lost.notify_one();
        }
    }
}

/// Keeps one slot filled for as long as the [`Connections`] live.
async fn keep(shared: Arc<Shared>, slot: Arc<Slot>) {
    let mut backoff = BACKOFF_MIN;
    let mut lived_before = false;
    loop {
        match connect(&shared, &slot).await {
            Ok(live) => {
                if lived_before {
                    metrics::stream_reconnected();
                }
                lived_before = true;
                let born = live.born;
                slot.live.store(Some(Arc::new(live)));
                metrics::stream_connected(true);
                slot.lost.notified().await;
                slot.live.store(None);
                let connected = shared.slots.iter().any(|slot| slot.live.load().is_some());
                metrics::stream_connected(connected);
                tracing::warn!(connected, "a connection to the stream was lost");
                if born.elapsed() >= STEADY_AFTER {
                    backoff = BACKOFF_MIN;
                    continue;
                }
            }
            // Once aloud, so that a wrong password is seen; then quietly, however long it takes.
            Err(error) if backoff == BACKOFF_MIN => {
                tracing::warn!(%error, "the stream cannot be reached: {error}");
            }
            Err(error) => tracing::debug!(%error, "the stream still cannot be reached: {error}"),
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Makes a connection and sees that the server answers on it.
async fn connect(shared: &Shared, slot: &Arc<Slot>) -> Result<Live, RedisError> {
    let generation = shared.generations.fetch_add(1, Ordering::Relaxed) + 1;
    let told: Weak<Slot> = Arc::downgrade(slot);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CONNECT_TIMEOUT))
        .set_pipeline_buffer_size(QUEUE_CALLS)
        .set_write_backpressure_boundary(WRITE_BYTES)
        .set_push_sender(move |push: redis::PushInfo| {
            if push.kind == redis::PushKind::Disconnection
                && let Some(slot) = told.upgrade()
            {
                slot.lose(generation);
            }
            Ok::<(), redis::aio::SendError>(())
        });
    let mut connection = shared.client.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("PING").query_async::<()>(&mut connection).await?;
    connection.set_response_timeout(RESPONSE_TIMEOUT);
    Ok(Live { connection, generation, born: Instant::now() })
}

/// A script of the hot path: called by its hash.
pub(super) struct Script {
    code: String,
    hash: String,
}

impl Script {
    pub(super) fn new(code: &str) -> Self {
        Self { code: code.to_owned(), hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// `EVALSHA hash keys`, to be continued with the keys and the arguments.
    pub(super) fn call(&self, keys: usize) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys);
        command
    }
}
