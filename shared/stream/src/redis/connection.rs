//! The few connections that all calls of the hot path share, and the circuit breaker over them.
//!
//! Each connection has a keeper: a task that asks its route for the primary, connects, publishes the
//! connection in a slot, and starts again when it is lost. A server that does not answer in time, or that is
//! not the primary any more, opens the circuit for all connections. The first new connection to a primary
//! that answers closes it. While the circuit is open, every call fails without waiting, and says why the
//! last attempt to connect failed.
//!
//! The batches of a runtime are admitted on an [`OwnConnection`], so that a call and its answer change no
//! thread, and one that blocks on the server holds up no other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::{Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::{ConnectionHealth, classify, connection_health, describe};
use super::keeper::keep_connected;
use super::route::Route;
use super::scripts::Script;
use super::shard_witness::{LinkWitness, TrustedEpoch};
use super::slot::{CONNECT_TIMEOUT, LiveConnection, Shared, Slot};
use crate::StreamError;
use crate::metrics::counted;

/// Time between two looks at a slot that is about to be connected.
const SLOT_POLL: Duration = Duration::from_millis(5);

/// The shared connections. Dropping it closes them.
pub(super) struct Connections {
    shared: Arc<Shared>,
    keepers: Vec<JoinHandle<()>>,
}

/// A connection of one user. Dropping it closes it.
pub(super) struct OwnConnection {
    connections: Arc<Connections>,
    slot: Arc<Slot>,
    keeper: JoinHandle<()>,
}

impl Connections {
    /// Starts connecting in the background.
    pub(super) fn start(route: Route, connections: usize, witness: LinkWitness) -> Self {
        let slots = (0..connections.max(1)).map(|_| Arc::new(Slot::default())).collect();
        let shared = Arc::new(Shared {
            route,
            place: ArcSwapOption::empty(),
            slots,
            own_slots: Mutex::default(),
            witness,
            failure: ArcSwap::from_pointee("connecting to Redis".to_owned()),
            attempted: watch::Sender::new(false),
            doubted_at: watch::Sender::new(None),
            generations: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
        });
        let keep = |slot: &Arc<Slot>| tokio::spawn(keep_connected(Arc::clone(&shared), Arc::clone(slot)));
        let keepers = shared.slots.iter().map(keep).collect();
        Self { shared, keepers }
    }

    /// Starts connecting one more connection, which this runtime serves and only its owner uses.
    pub(super) fn open_own(self: &Arc<Self>) -> OwnConnection {
        let slot = self.shared.add_own_slot();
        let keeper = tokio::spawn(keep_connected(Arc::clone(&self.shared), Arc::clone(&slot)));
        OwnConnection { connections: Arc::clone(self), slot, keeper }
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
        Ok(self.try_send(None, None, command).await?)
    }

    /// Sends one EVALSHA. Loads the script and sends it again when the server does not have the script.
    ///
    /// # Errors
    /// [`StreamError`], counted.
    pub(super) async fn eval(&self, script: &Script, command: &Cmd) -> Result<Value, StreamError> {
        self.try_eval(None, None, script, command).await.map_err(counted)
    }

    /// As [`Connections::eval`], unless the epoch is no longer trusted.
    ///
    /// # Errors
    /// [`StreamError`], counted; [`StreamError::EpochChanged`] when the epoch is no longer trusted and
    /// nothing was sent.
    pub(super) async fn eval_under(
        &self,
        epoch: TrustedEpoch<'_>,
        script: &Script,
        command: &Cmd,
    ) -> Result<Value, StreamError> {
        self.try_eval(None, Some(epoch), script, command).await.map_err(counted)
    }

    async fn try_eval(
        &self,
        own: Option<&Slot>,
        epoch: Option<TrustedEpoch<'_>>,
        script: &Script,
        command: &Cmd,
    ) -> Result<Value, StreamError> {
        let mut answer = self.try_send(own, epoch, command).await;
        if answer.as_ref().is_err_and(SendError::is_no_script) {
            self.load(script).await?;
            answer = self.try_send(own, epoch, command).await;
        }
        Ok(answer?)
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

    /// Sends one command on the connection in `own`. Without one, or while it is not connected, on the next
    /// shared one.
    async fn try_send(
        &self,
        own: Option<&Slot>,
        epoch: Option<TrustedEpoch<'_>>,
        command: &Cmd,
    ) -> Result<Value, SendError> {
        let own = own.and_then(|slot| Some((slot, slot.live.load_full()?)));
        let (slot, live) = own.map_or_else(|| self.next_live(), Ok).map_err(SendError::CircuitOpen)?;
        still_trusted(epoch)?;
        let mut connection = live.connection.clone();
        let sent = Instant::now();
        let answer = command.query_async::<Value>(&mut connection).await;
        answer.map_err(|error| self.failed(slot, &live, sent, error))
    }

    /// Sends two commands in one write on the connection of this slot and no other.
    async fn try_send_both(
        &self,
        slot: &Slot,
        epoch: TrustedEpoch<'_>,
        commands: &Pipeline,
    ) -> Result<[Value; 2], SendError> {
        let live = self.live_soon(slot).await.map_err(SendError::CircuitOpen)?;
        still_trusted(Some(epoch))?;
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

    /// The connection of this slot. While the circuit is closed, an empty slot is waited for: its keeper
    /// connects a moment later than the others.
    async fn live_soon(&self, slot: &Slot) -> Result<Arc<LiveConnection>, StreamError> {
        let began = Instant::now();
        loop {
            if let Some(live) = slot.live.load_full() {
                return Ok(live);
            }
            self.next_live()?;
            if began.elapsed() > CONNECT_TIMEOUT {
                return Err(self.shared.circuit_open());
            }
            tokio::time::sleep(SLOT_POLL).await;
        }
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

impl OwnConnection {
    /// As [`Connections::eval_under`], on this connection. While it is not connected, a shared one is used.
    ///
    /// # Errors
    /// The same, not counted.
    pub(super) async fn eval_under(
        &self,
        epoch: TrustedEpoch<'_>,
        script: &Script,
        command: &Cmd,
    ) -> Result<Value, StreamError> {
        self.connections.try_eval(Some(&self.slot), Some(epoch), script, command).await
    }

    /// Sends one EVALSHA and a command that may block, in one write. Loads the script and sends both again
    /// when the server does not have the script. Returns both answers; the second may be an error of the
    /// server.
    ///
    /// # Errors
    /// [`StreamError`] of the EVALSHA, not counted; [`StreamError::EpochChanged`] when the epoch is no longer
    /// trusted and nothing was sent.
    pub(super) async fn eval_and_block_under(
        &self,
        epoch: TrustedEpoch<'_>,
        script: &Script,
        commands: &Pipeline,
    ) -> Result<[Value; 2], StreamError> {
        let Self { connections, slot, .. } = self;
        let mut answers = connections.try_send_both(slot, epoch, commands).await;
        if answers.as_ref().is_err_and(SendError::is_no_script) {
            connections.load(script).await?;
            answers = connections.try_send_both(slot, epoch, commands).await;
        }
        Ok(answers?)
    }
}

impl Drop for OwnConnection {
    fn drop(&mut self) {
        self.keeper.abort();
        self.slot.live.store(None);
    }
}

/// The connection must have been taken before.
fn still_trusted(epoch: Option<TrustedEpoch<'_>>) -> Result<(), SendError> {
    match epoch {
        Some(epoch) if !epoch.is_trusted() => Err(SendError::EpochChanged),
        _ => Ok(()),
    }
}

enum SendError {
    /// Nothing was sent.
    CircuitOpen(StreamError),
    /// Nothing was sent: the epoch is no longer trusted.
    EpochChanged,
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
            SendError::EpochChanged => StreamError::EpochChanged,
            SendError::Redis(error) => classify(&error),
        }
    }
}
