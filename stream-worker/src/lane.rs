//! A lane: read what is there, write it in one transaction, settle it, again.
//!
//! There is no linger timer: while one transaction is written the next batch gathers in the stream, so transactions grow
//! with the load by themselves and an idle system adds no delay. After any error of the stream a lane opens a new
//! reader under its old name and reads its own pending entries to the end first. After any error of the store it
//! keeps what it holds and writes the same again: the ledger tells what had been committed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::metrics;
use millrace_failpoint::{self as failpoint, Point};
use millrace_store::metrics::Phase;
use millrace_store::{SharedStore, WriteError, WriteOutcome, WriteRequest, Writer};
use millrace_stream::{Delivery, EntryId, Reader, Settlement, SharedStream, StreamError};
use tokio::sync::watch;

use crate::backoff::{Backoff, stopped};
use crate::config::Settings;
use crate::load::{Loaded, Loader};

/// How long a read waits for the first entry; also how soon an idle lane notices that it should stop.
const READ_WAIT: Duration = Duration::from_millis(500);
/// PackedBatch bytes that one read should bring, to bound a reply of the stream.
const READ_BYTES_GOAL: usize = 4 << 20;
/// Entries of one read, at most: what a read can bring when small entries are suddenly followed by large ones.
const READ_ENTRIES_MAX: usize = 128;
/// PackedBatch bytes with which the hands are full, a single read aside.
const HELD_BYTES_MAX: usize = 16 << 20;
/// What an entry is taken for before one was seen.
const ENTRY_BYTES_AT_FIRST: usize = 256 << 10;
/// Events of a transaction that is not worth its commit: see [`Settings::transaction_pace`].
const SMALL_EVENTS_MAX: u64 = 1_000;

/// One lane of one shard.
pub struct Lane {
    name: String,
    shard: u16,
    stream: SharedStream,
    store: SharedStore,
    settings: Arc<Settings>,
    shutdown: watch::Receiver<bool>,
    loader: Loader,
    /// Read and not yet settled, in order.
    held: VecDeque<Delivery>,
    writer: Option<Box<dyn Writer>>,
    /// A writer was lost: the next one is a reconnection.
    writer_was_lost: bool,
    /// PackedBatch bytes an entry is expected to have, to size the next read.
    entry_bytes: usize,
}

impl Lane {
    /// A lane that reads under `name`, which nobody else may use.
    pub fn new(
        name: String,
        shard: u16,
        stream: SharedStream,
        store: SharedStore,
        settings: Arc<Settings>,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        let loader = Loader::new(shard, Arc::clone(&stream), settings.transaction_events_max);
        Self {
            name,
            shard,
            stream,
            store,
            settings,
            shutdown,
            loader,
            held: VecDeque::new(),
            writer: None,
            writer_was_lost: false,
            entry_bytes: ENTRY_BYTES_AT_FIRST,
        }
    }

    /// Drains until the process is to stop. What is held then stays pending, for whoever comes next.
    pub async fn run(mut self) {
        let _running = metrics::RunningLane::new();
        let mut backoff = Backoff::new("the stream");
        while !self.stopping() {
            match self.drain(&mut backoff).await {
                Ok(()) => return,
                Err(error) => {
                    self.held.clear();
                    // It may have been more than the link can carry in time; ask for little until it works.
                    self.entry_bytes = READ_BYTES_GOAL;
                    if !backoff.wait(&error, &mut self.shutdown).await {
                        return;
                    }
                }
            }
        }
    }

    fn stopping(&self) -> bool {
        *self.shutdown.borrow()
    }

    /// One life of a reader. Ends well only when the process is to stop.
    async fn drain(&mut self, backoff: &mut Backoff) -> Result<(), StreamError> {
        let mut reader = self.stream.reader(self.shard, &self.name).await?;
        self.finish_own_pending(reader.as_mut()).await?;
        let mut looked_for_silent: Option<Instant> = None;
        while !self.stopping() {
            if looked_for_silent.is_none_or(|at| at.elapsed() > self.settings.takeover_idle / 4) {
                self.take_over(reader.as_mut()).await?;
                looked_for_silent = Some(Instant::now());
            }
            self.gather(reader.as_mut()).await?;
            backoff.recovered();
            let (began, events) = (Instant::now(), self.held_size().0);
            self.empty_hands().await?;
            self.keep_pace(began, events).await;
        }
        reader.leave().await
    }

    /// Writes and settles what this lane was handed in an earlier life of its reader.
    async fn finish_own_pending(&mut self, reader: &mut dyn Reader) -> Result<(), StreamError> {
        let mut after = EntryId::default();
        while !self.stopping() {
            let deliveries = reader.own_pending(after, self.read_entries()).await?;
            let Some(last) = deliveries.last() else { return Ok(()) };
            after = last.id;
            self.hold(deliveries);
            self.empty_hands().await?;
        }
        Ok(())
    }

    async fn take_over(&mut self, reader: &mut dyn Reader) -> Result<(), StreamError> {
        let taken = reader.take_over(self.settings.takeover_idle, self.read_entries()).await?;
        millrace_stream::metrics::taken_over(taken.deliveries.len(), taken.vanished.len());
        for id in &taken.vanished {
            tracing::error!(%id, shard = self.shard, "entry {id} was deleted from the stream before it was stored");
        }
        if !taken.deliveries.is_empty() {
            let count = taken.deliveries.len();
            tracing::info!(count, shard = self.shard, "took {count} entries over from silent consumers");
        }
        self.hold(taken.deliveries);
        Ok(())
    }

    /// Reads until the hands are full or nothing is there. Waits only when they are empty.
    async fn gather(&mut self, reader: &mut dyn Reader) -> Result<(), StreamError> {
        let started = Instant::now();
        let mut waited = false;
        loop {
            let wait = if self.held.is_empty() { READ_WAIT } else { Duration::ZERO };
            waited |= !wait.is_zero();
            let entries = reader.next(self.read_entries(), wait).await?;
            let nothing_there = entries.is_empty();
            self.hold(entries);
            let (events, bytes) = self.held_size();
            if nothing_there || events >= self.settings.transaction_events_max || bytes >= HELD_BYTES_MAX {
                break;
            }
        }
        // Time spent waiting for somebody to post is not time spent reading.
        if !waited {
            millrace_store::metrics::lane_phase(Phase::Read, started.elapsed());
        }
        Ok(())
    }

    /// Waits until it is time for the next transaction, after a small one.
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
            if let Ok(packed) = &delivery.packed {
                // Up at once, down slowly.
                self.entry_bytes = packed.data.len().max(self.entry_bytes * 7 / 8);
            }
            self.held.push_back(delivery);
        }
    }

    /// Events and packed bytes held.
    fn held_size(&self) -> (u64, usize) {
        let size = |delivery: &Delivery| match &delivery.packed {
            Ok(packed) => (u64::from(packed.count), packed.data.len()),
            Err(damage) => (1, damage.raw.len()),
        };
        self.held.iter().map(size).fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    }

    fn read_entries(&self) -> usize {
        (READ_BYTES_GOAL / self.entry_bytes.max(1)).clamp(1, READ_ENTRIES_MAX)
    }

    /// Writes and settles everything held, in as many transactions as it takes. A write that fails is tried again, noted
    /// again when it is a suspect's, until it succeeds or the process is to stop.
    async fn empty_hands(&mut self) -> Result<(), StreamError> {
        let mut backoff = Backoff::new("the store");
        while !self.held.is_empty() {
            let loaded = self.loader.load(&self.held).await?;
            let works: Vec<WriteRequest> = loaded.iter().map(|loaded| loaded.work.clone()).collect();
            let written = match self.write(&works).await {
                Ok(written) => written,
                Err(error) => {
                    self.writer_was_lost |= self.writer.take().is_some();
                    metrics::write_failed();
                    self.loader.take_less(&works);
                    self.loader.acquit(self.held.front()).await;
                    if matches!(error, WriteError::LedgerRetired) {
                        return Err(StreamError::Refused(format!(
                            "what is held may not be ours any more: {error}"
                        )));
                    }
                    if !backoff.wait(&error, &mut self.shutdown).await {
                        return Ok(());
                    }
                    continue;
                }
            };
            backoff.recovered();
            self.loader.take_more();
            report(&works, &written);
            let settlements: Vec<_> =
                loaded.iter().zip(&written).map(|(loaded, written)| settlement(loaded, written)).collect();
            self.settle(&settlements).await?;
            failpoint::reach(Point::AfterSettle);
            self.held.drain(..loaded.len());
        }
        Ok(())
    }

    async fn write(&mut self, works: &[WriteRequest]) -> Result<Vec<WriteOutcome>, WriteError> {
        if self.writer.is_none() {
            self.writer = Some(self.store.writer(&self.name).await?);
            if std::mem::take(&mut self.writer_was_lost) {
                millrace_store::metrics::store_reconnected("lane");
            }
        }
        self.writer.as_mut().expect("opened above").write(works).await
    }

    /// Settles until it is settled; an answer that got lost is asked for again.
    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), StreamError> {
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

fn settlement(loaded: &Loaded, written: &WriteOutcome) -> Settlement {
    let WriteRequest { entry, batch_id, project, count, .. } = loaded.work;
    Settlement { id: entry, batch_id, project, count, bytes: loaded.packed_bytes, outcome: written.outcome }
}

fn report(works: &[WriteRequest], written: &[WriteOutcome]) {
    let oldest_ms = works.iter().map(|work| work.entry.ms).min().unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let events = works.iter().map(|work| u64::from(work.count)).sum();
    metrics::transaction_committed(events, now.saturating_sub(Duration::from_millis(oldest_ms)));
    for written in written {
        if written.redelivered {
            metrics::entry_redelivered();
        } else {
            metrics::entry_written(written.outcome);
        }
    }
}
