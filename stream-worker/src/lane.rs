//! A lane: read the next entries, write them in one transaction, settle them, repeat.
//!
//! There is no linger timer: while one transaction is written, the next entries gather in the stream.
//! Transactions grow with the load, and an idle system adds no delay. After an error of the stream, a lane
//! opens a new reader under its old name and first reads all of its own pending entries. After an error of
//! the store, it keeps the entries it holds and writes them again; the ledger shows which of them were
//! committed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_failpoint::{self as failpoint, Point};
use millrace_store::metrics::Phase;
use millrace_store::{
    ReplicationProgress, RequestRefunds, SharedStore, WriteError, WriteOutcome, WriteRequest, Writer,
};
use millrace_stream::{Delivery, EntryId, Epoch, Reader, Settlement, SharedStream, StreamError};
use tokio::sync::watch;

use crate::backoff::{Backoff, stopped};
use crate::config::Settings;
use crate::deps::Deps;
use crate::held::{HeldEntries, HeldEntry};
use crate::lane_error::LaneError;
use crate::metrics;
use crate::settlement::{GRACE, SettlementQueue};
use crate::transaction::{Transaction, TransactionBuilder};

/// How long a read waits for the first entry. An idle lane takes up to this long to stop.
const READ_WAIT: Duration = Duration::from_millis(500);
/// Packed bytes that one read should return, to bound a reply of the stream.
const READ_BYTES_GOAL: usize = 4 << 20;
/// Entries of one read, at most. It bounds a read in which large entries suddenly follow small ones.
const READ_ENTRIES_MAX: usize = 128;
/// Packed bytes at which a lane stops reading and writes. The last read may exceed them.
const HELD_BYTES_MAX: usize = 16 << 20;
/// The assumed size of an entry before the first one was read.
const ENTRY_BYTES_AT_FIRST: usize = 256 << 10;
/// A transaction of fewer events is small: see [`Settings::transaction_pace`].
const SMALL_EVENTS_MAX: u64 = 1_000;

/// One lane of one shard.
pub struct Lane {
    name: String,
    shard: u16,
    stream: SharedStream,
    store: SharedStore,
    settings: Arc<Settings>,
    shutdown: watch::Receiver<bool>,
    transactions: TransactionBuilder,
    /// The epoch of the shard before the oldest of the held entries was read.
    epoch: Option<Epoch>,
    /// Entries that were read and are not settled, in order.
    held: HeldEntries,
    /// Committed entries that wait for standbys. They are not held any more.
    unsettled: SettlementQueue,
    writer: Option<Box<dyn Writer>>,
    /// A writer was lost, so opening the next one counts as a reconnection.
    writer_was_lost: bool,
    /// Packed bytes that an entry is expected to have, to size the next read.
    entry_bytes: usize,
}

impl Lane {
    /// `name` is the lane's consumer name in the stream. No other lane may use it at the same time.
    pub fn new(name: String, shard: u16, deps: Deps, shutdown: watch::Receiver<bool>) -> Self {
        let Deps { stream, store, settings, .. } = deps;
        let transactions =
            TransactionBuilder::new(shard, Arc::clone(&stream), settings.transaction_events_max);
        let unsettled = SettlementQueue::new(settings.takeover_idle / 4);
        Self {
            name,
            shard,
            stream,
            store,
            settings,
            shutdown,
            transactions,
            epoch: None,
            held: HeldEntries::new(),
            unsettled,
            writer: None,
            writer_was_lost: false,
            entry_bytes: ENTRY_BYTES_AT_FIRST,
        }
    }

    /// Drains until the process is to stop. Entries held then stay pending and are taken over by another
    /// lane.
    pub async fn run(mut self) {
        let _running = metrics::RunningLane::new();
        let mut backoff = Backoff::new("draining the stream");
        while !self.is_stopping() {
            match self.drain(&mut backoff).await {
                Ok(()) => return,
                Err(error) => {
                    self.held.clear();
                    self.transactions.reset();
                    self.unsettled.clear();
                    // The last read may have been more than the link can carry in time: read little until it
                    // works.
                    self.entry_bytes = READ_BYTES_GOAL;
                    if !backoff.wait(&error, &mut self.shutdown).await {
                        return;
                    }
                }
            }
        }
    }

    fn is_stopping(&self) -> bool {
        *self.shutdown.borrow()
    }

    /// Drains with one reader. Returns `Ok` only when the process is to stop.
    async fn drain(&mut self, backoff: &mut Backoff) -> Result<(), LaneError> {
        self.note_epoch()?;
        let mut reader = self.stream.reader(self.shard, &self.name).await?;
        self.finish_own_pending(reader.as_mut()).await?;
        let mut last_take_over: Option<Instant> = None;
        while !self.is_stopping() {
            self.await_standbys().await?;
            self.note_epoch()?;
            if last_take_over.is_none_or(|at| at.elapsed() > self.settings.takeover_idle / 4) {
                self.take_over(reader.as_mut()).await?;
                last_take_over = Some(Instant::now());
            }
            self.gather(reader.as_mut()).await?;
            backoff.recovered();
            let (began, events) = (Instant::now(), self.held_size().0);
            self.flush().await?;
            self.keep_pace(began, events).await;
        }
        self.settle_within_grace().await?;
        Ok(reader.leave().await?)
    }

    /// Call it only while no entry is held, before the next is read.
    fn note_epoch(&mut self) -> Result<(), LaneError> {
        self.epoch = self.stream.trusted_epoch(self.shard);
        if self.epoch.is_none() { Err(LaneError::NoEpoch) } else { Ok(()) }
    }

    /// Writes and settles the entries that were delivered to an earlier reader of this lane.
    async fn finish_own_pending(&mut self, reader: &mut dyn Reader) -> Result<(), LaneError> {
        let mut after = EntryId::default();
        while !self.is_stopping() {
            let deliveries = reader.own_pending(after, self.read_entries()).await?;
            let Some(last) = deliveries.last() else { return Ok(()) };
            after = last.id;
            self.hold(deliveries);
            self.flush().await?;
        }
        Ok(())
    }

    async fn take_over(&mut self, reader: &mut dyn Reader) -> Result<(), StreamError> {
        let taken = reader.take_over(self.settings.takeover_idle, self.read_entries()).await?;
        let (shard, count) = (self.shard, taken.deliveries.len());
        millrace_stream::metrics::taken_over(count, taken.vanished.len());
        for id in &taken.vanished {
            tracing::error!(%id, shard, "an entry was deleted from the stream before it was stored");
        }
        if count > 0 {
            tracing::info!(count, shard, "took entries over from silent consumers");
        }
        self.hold(taken.deliveries);
        Ok(())
    }

    /// Reads until enough is held or the stream has no more. Waits only while nothing is held.
    async fn gather(&mut self, reader: &mut dyn Reader) -> Result<(), StreamError> {
        let started = Instant::now();
        let mut waited = false;
        loop {
            let wait = if self.held.is_empty() { self.read_wait() } else { Duration::ZERO };
            waited |= !wait.is_zero();
            let deliveries = reader.next(self.read_entries(), wait).await?;
            let is_drained = deliveries.is_empty();
            self.hold(deliveries);
            let (events, bytes) = self.held_size();
            if is_drained || events >= self.settings.transaction_events_max || bytes >= HELD_BYTES_MAX {
                break;
            }
        }
        // The time spent waiting for the next batch is not time spent reading.
        if !waited {
            millrace_store::metrics::lane_phase(Phase::Read, started.elapsed());
        }
        Ok(())
    }

    /// Waits until the next transaction may begin, after a small one.
    async fn keep_pace(&mut self, began: Instant, events: u64) {
        let left = self.settings.transaction_pace.saturating_sub(began.elapsed());
        if left.is_zero() || events >= SMALL_EVENTS_MAX {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = stopped(&mut self.shutdown) => {}
        }
    }

    fn hold(&mut self, deliveries: Vec<Delivery>) {
        if !deliveries.is_empty() {
            failpoint::reach(Point::AfterRead);
        }
        for delivery in deliveries {
            if let Ok(entry) = &delivery.entry {
                // Rises immediately and falls slowly.
                self.entry_bytes = entry.data.len().max(self.entry_bytes * 7 / 8);
            }
            self.held.push_back(HeldEntry::new(delivery));
        }
    }

    /// Events and packed bytes held.
    fn held_size(&self) -> (u64, usize) {
        self.held.iter().map(HeldEntry::size).fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    }

    /// Shorter while settlements wait for standbys, which is asked between two reads.
    fn read_wait(&self) -> Duration {
        if self.unsettled.is_empty() { READ_WAIT } else { self.unsettled.poll_pause(Instant::now()) }
    }

    fn read_entries(&self) -> usize {
        (READ_BYTES_GOAL / self.entry_bytes.max(1)).clamp(1, READ_ENTRIES_MAX)
    }

    /// Writes and settles every held entry, in one transaction or more. A failed write is repeated until it
    /// succeeds or the process is to stop; before each attempt at a suspect, the attempt is noted again.
    async fn flush(&mut self) -> Result<(), LaneError> {
        let mut backoff = Backoff::new("writing to the store");
        while !self.held.is_empty() {
            let transaction = self.transactions.build(&self.held).await?;
            match self.write(&transaction).await {
                Ok((outcomes, refunds, progress)) => {
                    backoff.recovered();
                    self.transactions.grow();
                    record_commit(&transaction.requests, &outcomes);
                    self.transactions.committed(&self.held, &transaction, &outcomes).await;
                    let settlements = transaction.record(&mut self.held, &outcomes, &refunds);
                    match progress {
                        None => self.settle(&settlements).await?,
                        Some(progress) => {
                            self.unsettled.push(progress, settlements, Instant::now())?;
                            let released = self.unsettled.release(progress)?;
                            self.settle(&released).await?;
                        }
                    }
                    failpoint::reach(Point::AfterSettle);
                    if self.unsettled.is_full(Instant::now()) {
                        self.await_standbys().await?;
                    }
                }
                Err(error) => {
                    self.writer_was_lost |= self.writer.take().is_some();
                    metrics::write_failed();
                    self.transactions.shrink(&transaction);
                    self.transactions.clear_attempts(self.held.front()).await;
                    match error {
                        WriteError::LedgerRetired => return Err(LaneError::OwnershipLost),
                        WriteError::EpochReplaced { .. } => return Err(LaneError::EpochReplaced),
                        WriteError::Environment { .. } => {}
                    }
                    if !backoff.wait(&error, &mut self.shutdown).await {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes, and asks how far the standbys are, if settling waits for them.
    async fn write(
        &mut self,
        transaction: &Transaction,
    ) -> Result<(Vec<WriteOutcome>, RequestRefunds, Option<ReplicationProgress>), WriteError> {
        let (standbys, epoch, shard) = (self.settings.standbys(), self.epoch, self.shard);
        let writer = self.writer().await?;
        if let Some(epoch) = epoch {
            writer.require_epoch(shard, epoch);
        }
        let Transaction { requests, charges, .. } = transaction;
        let (outcomes, refunds) = writer.write_charged(requests, charges).await?;
        let progress = if standbys > 0 { Some(writer.replication(standbys).await?) } else { None };
        Ok((outcomes, refunds, progress))
    }

    async fn writer(&mut self) -> Result<&mut dyn Writer, WriteError> {
        if self.writer.is_none() {
            self.writer = Some(self.store.writer(&self.name).await?);
            if std::mem::take(&mut self.writer_was_lost) {
                millrace_store::metrics::store_reconnected("lane");
            }
        }
        Ok(self.writer.as_mut().expect("opened above").as_mut())
    }

    /// Settles what the standbys have. Returns when no more has to be settled before the lane writes again.
    async fn await_standbys(&mut self) -> Result<(), LaneError> {
        let mut backoff = Backoff::new("waiting for standbys of the store");
        while !self.unsettled.is_empty() {
            let is_alive = self.settle_replicated(&mut backoff).await?;
            if !is_alive || !self.unsettled.is_full(Instant::now()) {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(self.unsettled.poll_pause(Instant::now())) => {}
                () = stopped(&mut self.shutdown) => break,
            }
        }
        Ok(())
    }

    /// Asks once how far the standbys are, and settles. Returns false when the process is to stop.
    async fn settle_replicated(&mut self, backoff: &mut Backoff) -> Result<bool, LaneError> {
        let standbys = self.settings.standbys();
        let progress = match self.writer().await {
            Ok(writer) => writer.replication(standbys).await,
            Err(error) => Err(error),
        };
        match progress {
            Ok(progress) => {
                backoff.recovered();
                let released = self.unsettled.release(progress)?;
                self.settle(&released).await?;
                Ok(true)
            }
            Err(error) => {
                self.writer_was_lost |= self.writer.take().is_some();
                Ok(backoff.wait(&error, &mut self.shutdown).await)
            }
        }
    }

    /// Before the lane ends: gives standbys that are almost there a moment. The rest is delivered again.
    async fn settle_within_grace(&mut self) -> Result<(), LaneError> {
        let deadline = Instant::now() + GRACE;
        let mut backoff = Backoff::new("waiting for standbys of the store");
        while !self.unsettled.is_empty() && Instant::now() < deadline {
            if !self.settle_replicated(&mut backoff).await? {
                break;
            }
            if !self.unsettled.is_empty() {
                tokio::time::sleep(self.unsettled.poll_pause(Instant::now())).await;
            }
        }
        Ok(())
    }

    /// Settles committed entries. After an error the same call is repeated, because settling again changes
    /// nothing.
    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), StreamError> {
        if settlements.is_empty() {
            return Ok(());
        }
        let mut backoff = Backoff::new("settling");
        let started = Instant::now();
        loop {
            match self.stream.settle(self.shard, settlements).await {
                Ok(settled) => {
                    backoff.recovered();
                    metrics::entries_settled(settled, settlements.len() as u64 - settled);
                    millrace_store::metrics::lane_phase(Phase::Settle, started.elapsed());
                    return Ok(());
                }
                Err(error) => {
                    if !backoff.wait(&error, &mut self.shutdown).await {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// Records a committed transaction in the metrics.
fn record_commit(requests: &[WriteRequest], outcomes: &[WriteOutcome]) {
    let oldest_ms = requests.iter().map(|request| request.entry.ms).min().unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let events = requests.iter().map(|request| u64::from(request.count)).sum();
    metrics::transaction_committed(events, now.saturating_sub(Duration::from_millis(oldest_ms)));
    for outcome in outcomes {
        if outcome.redelivered {
            metrics::batch_redelivered();
        } else {
            metrics::batch_written(outcome.outcome);
        }
    }
}
