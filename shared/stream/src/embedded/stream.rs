//! [`EmbeddedStream`]: runs each call as a write or a read of the file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;

use super::admit::AdmitRequest;
use super::core::Core;
use super::position::Position;
use super::reader::EmbeddedReader;
use super::rebuild::ContentSummary;
use super::{limits, queries, rebuild, schema, settle, trial};
use crate::metrics::{BACKLOG_EVENTS_MAX, STREAM_CONNECTED, counted};
use crate::{
    Admission, Backlog, BatchId, BatchState, Decision, DurabilityReport, EntryId, Epoch, PendingBatch,
    ProjectCounters, Reader, Settlement, SharedStream, Stream, StreamError, Witness,
};
use millrace_event::limit::{Amount, Charge, Counter, CounterState};
use millrace_event::plan::{LimitState, ProjectId};

/// Batches settled in one transaction, so that a lane that settles many does not delay admissions.
const CHUNK_BATCHES: usize = 256;

/// Settings of an [`EmbeddedStream`].
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The folder of `stream.db`. It is created when it is missing.
    pub folder: PathBuf,
    /// Events that may wait.
    pub backlog_events_max: u64,
}

/// The stream in a file.
pub struct EmbeddedStream {
    core: Arc<Core>,
    backlog_events_max: u64,
    trusted: ArcSwapOption<Epoch>,
    /// The last admission found no room.
    found_full: AtomicBool,
}

impl EmbeddedStream {
    /// Opens the stream in this folder for this process alone, and creates it when there is none. Checks the
    /// whole file, which takes time when the backlog is large: call it before serving requests.
    ///
    /// # Errors
    /// [`StreamError::Refused`] when another process uses the folder, or the file in it is not an intact
    /// stream.
    pub fn open(options: EmbeddedOptions) -> Result<Arc<Self>, StreamError> {
        let EmbeddedOptions { folder, backlog_events_max } = options;
        let core = Core::open(folder)?;
        // A file that is open stays connected for the life of the process.
        STREAM_CONNECTED.set(1.0);
        BACKLOG_EVENTS_MAX.set(backlog_events_max as f64);
        Ok(Self::with_core(Arc::new(core), backlog_events_max))
    }

    /// Opens the stream for reading, in any process, whether or not another process serves it. Writes are
    /// refused.
    ///
    /// # Errors
    /// [`StreamError`] when there is no stream in this folder, or the file is not an intact stream.
    pub fn open_reader(folder: impl Into<PathBuf>) -> Result<Arc<Self>, StreamError> {
        Ok(Self::with_core(Arc::new(Core::open_read_only(folder.into())?), 0))
    }

    /// Another view of the same file in this process, with its own limit and its own trusted epoch.
    pub fn another(&self, backlog_events_max: u64) -> Arc<Self> {
        Self::with_core(Arc::clone(&self.core), backlog_events_max)
    }

    fn with_core(core: Arc<Core>, backlog_events_max: u64) -> Arc<Self> {
        Arc::new(Self {
            core,
            backlog_events_max,
            trusted: ArcSwapOption::empty(),
            found_full: AtomicBool::new(false),
        })
    }

    fn trusted(&self) -> Option<Epoch> {
        self.trusted.load_full().map(|epoch| *epoch)
    }
}

fn check_shard(shard: u16) -> Result<(), StreamError> {
    match shard {
        0 => Ok(()),
        _ => Err(StreamError::Refused(format!("there is no shard {shard}: this stream has only shard 0"))),
    }
}

fn position_of(id: EntryId) -> Result<Position, StreamError> {
    Position::of(id).ok_or_else(|| StreamError::Refused(format!("{id} is not an entry id of this stream")))
}

#[async_trait]
impl Stream for EmbeddedStream {
    fn shards(&self) -> u16 {
        1
    }

    /// One thread writes for all runtimes.
    fn for_another_runtime(self: Arc<Self>) -> SharedStream {
        self
    }

    async fn admit(&self, admission: &Admission<'_>) -> Result<Decision, StreamError> {
        self.core.writer()?;
        let Some(trusted) = self.trusted() else {
            return Ok(Decision::EpochChanged);
        };
        let request = AdmitRequest::new(admission, trusted, self.backlog_events_max);
        let admitted =
            self.core.write(request.bytes(), move |transaction| request.admit_in(transaction)).await;
        let is_full = matches!(admitted, Err(StreamError::Full(_) | StreamError::ReadOnly(_)));
        if is_full || self.found_full.load(Ordering::Relaxed) {
            self.found_full.store(is_full, Ordering::Relaxed);
        }
        admitted
    }

    async fn batch_state(&self, _: ProjectId, batch_id: BatchId) -> Result<BatchState, StreamError> {
        let core = Arc::clone(&self.core);
        self.core.reads.read(move |file| queries::batch_state(file, &core.markers, batch_id)).await
    }

    async fn limit_state(&self, project: ProjectId) -> Result<LimitState, StreamError> {
        self.core.reads.read(move |file| queries::limit_state(file, project)).await
    }

    async fn limits_used(
        &self,
        project: ProjectId,
        counters: &[Counter],
    ) -> Result<(u64, Vec<Amount>), StreamError> {
        let counters = counters.to_vec();
        self.core.reads.read(move |file| queries::limits_used(file, project, &counters)).await
    }

    async fn backlog(&self) -> Result<Backlog, StreamError> {
        self.core.reads.read(queries::backlog).await
    }

    async fn durability_report(&self, _shard: u16) -> Result<DurabilityReport, StreamError> {
        let faults = self.core.write(0, |transaction| schema::durability_faults(transaction.file)).await?;
        Ok(DurabilityReport { faults, ..DurabilityReport::default() })
    }

    /// Writes only after an admission found no room.
    async fn check_writable(&self, _shard: u16) -> Result<(), StreamError> {
        if self.found_full.load(Ordering::Relaxed) {
            self.core.write(0, |transaction| trial::write(transaction.file)).await?;
            self.core.write(0, |transaction| trial::remove(transaction.file)).await?;
            self.found_full.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn reader(&self, shard: u16, consumer: &str) -> Result<Box<dyn Reader>, StreamError> {
        check_shard(shard)?;
        self.core.writer()?;
        Ok(Box::new(EmbeddedReader::new(Arc::clone(&self.core), consumer)))
    }

    async fn settle(&self, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError> {
        check_shard(shard)?;
        self.core.writer()?;
        let trusted = self.trusted();
        let mut settled = 0;
        for chunk in Settlement::calls(settlements, CHUNK_BATCHES) {
            let chunk = chunk.to_vec();
            let done =
                self.core.write(0, move |transaction| settle::settle(transaction, &chunk, trusted)).await?;
            settled += done.ok_or_else(|| counted(StreamError::EpochChanged))?;
        }
        Ok(settled)
    }

    async fn note_attempt(&self, shard: u16, id: EntryId) -> Result<u32, StreamError> {
        check_shard(shard)?;
        let position = position_of(id)?;
        self.core.write(0, move |transaction| settle::note_attempt(transaction.file, position)).await
    }

    async fn forget_attempts(&self, shard: u16, id: EntryId) -> Result<(), StreamError> {
        check_shard(shard)?;
        let position = position_of(id)?;
        self.core.write(0, move |transaction| settle::forget_attempts(transaction.file, position)).await
    }

    async fn retire_consumers(&self, shard: u16, idle: Duration) -> Result<u64, StreamError> {
        check_shard(shard)?;
        Ok(self.core.dispatch.deliveries().retire(idle, None))
    }

    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StreamError> {
        check_shard(shard)?;
        self.core.reads.read(queries::epoch).await
    }

    /// A file that this process serves cannot be replaced by an older one, so no batch can be missing: what
    /// may be older than the store is the file that it opened.
    async fn witness(&self, shard: u16) -> Result<Witness, StreamError> {
        check_shard(shard)?;
        let acknowledged = self.core.dispatch.last().id();
        let (epoch, last) = self.core.reads.read(queries::epoch_and_position).await?;
        Ok(Witness { epoch, last, acknowledged, trusted: self.trusted(), missing: Vec::new() })
    }

    fn trusted_epoch(&self, shard: u16) -> Option<Epoch> {
        if shard == 0 { self.trusted() } else { None }
    }

    fn trust_epoch(&self, shard: u16, epoch: Epoch) {
        if shard == 0 {
            self.trusted.store(Some(Arc::new(epoch)));
        }
    }

    async fn pending_batches(&self, shard: u16) -> Result<Vec<PendingBatch>, StreamError> {
        check_shard(shard)?;
        self.core.reads.read(queries::pending_batches).await
    }

    async fn pending_charges(&self, shard: u16) -> Result<Vec<(PendingBatch, Vec<Charge>)>, StreamError> {
        check_shard(shard)?;
        self.core.reads.read(queries::pending_charges).await
    }

    async fn fence(&self, shard: u16, epoch: Epoch) -> Result<(), StreamError> {
        check_shard(shard)?;
        self.core
            .write(0, move |transaction| {
                rebuild::fence(transaction, epoch);
                Ok(())
            })
            .await
    }

    async fn restore_limits(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[(ProjectId, CounterState)],
    ) -> Result<bool, StreamError> {
        check_shard(shard)?;
        let counters = counters.to_vec();
        self.core.write(0, move |transaction| limits::restore(transaction, epoch, &counters)).await
    }

    async fn rebuild(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[ProjectCounters],
        expected: &[PendingBatch],
        floor: EntryId,
    ) -> Result<bool, StreamError> {
        check_shard(shard)?;
        let floor = position_of(floor)?;
        let (counters, expected) = (counters.to_vec(), ContentSummary::of(expected));
        self.core
            .write(0, move |transaction| rebuild::rebuild(transaction, epoch, &counters, &expected, floor))
            .await
    }

    async fn counters(&self, projects: &[ProjectId]) -> Result<Vec<ProjectCounters>, StreamError> {
        let projects = projects.to_vec();
        self.core.reads.read(move |file| queries::counters(file, &projects)).await
    }
}
