//! [`RedisStream`]: passes each call to the module that does it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;

use super::admission_queue::AdmissionQueue;
use super::core::Core;
use super::options::RedisOptions;
use super::reader::RedisReader;
use super::{admin, admit, durability, limits, rebuild, retire, settle, state, witness, writable};
use crate::{
    Admission, Backlog, BatchId, BatchState, Decision, DurabilityReport, EntryId, Epoch, PendingBatch,
    ProjectCounters, Reader, Settlement, SharedStream, Stream, StreamError, Witness,
};
use millrace_event::limit::{Amount, Charge, Counter, CounterState};
use millrace_event::plan::{LimitState, ProjectId};

/// The stream on Redis.
pub struct RedisStream {
    core: Arc<Core>,
    /// Started by the first admission, in its runtime.
    admissions: OnceLock<AdmissionQueue>,
}

impl RedisStream {
    /// Starts to connect in the background, and does not wait for it. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StreamError::Refused`] when the URL is invalid.
    pub fn new(options: RedisOptions) -> Result<Arc<Self>, StreamError> {
        let core = Arc::new(Core::start(options)?);
        Ok(Arc::new(Self { core, admissions: OnceLock::new() }))
    }
}

#[async_trait]
impl Stream for RedisStream {
    fn shards(&self) -> u16 {
        self.core.shard_count
    }

    fn for_another_runtime(self: Arc<Self>) -> SharedStream {
        Arc::new(Self { core: Arc::clone(&self.core), admissions: OnceLock::new() })
    }

    async fn admit(&self, admission: &Admission<'_>) -> Result<Decision, StreamError> {
        let queue = self.admissions.get_or_init(|| AdmissionQueue::start(&self.core));
        admit::admit(&self.core, queue, admission).await
    }

    async fn batch_state(&self, project: ProjectId, batch_id: BatchId) -> Result<BatchState, StreamError> {
        state::batch_state(&self.core, project, batch_id).await
    }

    async fn limit_state(&self, project: ProjectId) -> Result<LimitState, StreamError> {
        state::limit_state(&self.core, project).await
    }

    async fn limits_used(
        &self,
        project: ProjectId,
        counters: &[Counter],
    ) -> Result<(u64, Vec<Amount>), StreamError> {
        limits::limits_used(&self.core, project, counters).await
    }

    async fn backlog(&self) -> Result<Backlog, StreamError> {
        admin::backlog(&self.core).await
    }

    async fn durability_report(&self, shard: u16) -> Result<DurabilityReport, StreamError> {
        let report = durability::durability_report(&self.core, shard).await;
        let mut report = report.map_err(|error| self.core.named(shard, error))?;
        report.faults = report.faults.iter().map(|fault| self.core.name(shard, fault)).collect();
        Ok(report)
    }

    async fn check_writable(&self, shard: u16) -> Result<(), StreamError> {
        let checked = writable::check_writable(&self.core, shard).await;
        checked.map_err(|error| self.core.named(shard, error))
    }

    async fn reader(&self, shard: u16, consumer: &str) -> Result<Box<dyn Reader>, StreamError> {
        Ok(Box::new(RedisReader::open(&self.core, shard, consumer).await?))
    }

    async fn settle(&self, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError> {
        settle::settle(&self.core, shard, settlements).await
    }

    async fn note_attempt(&self, shard: u16, id: EntryId) -> Result<u32, StreamError> {
        settle::note_attempt(&self.core, shard, id).await
    }

    async fn forget_attempts(&self, shard: u16, id: EntryId) -> Result<(), StreamError> {
        settle::forget_attempts(&self.core, shard, id).await
    }

    async fn retire_consumers(&self, shard: u16, idle: Duration) -> Result<u64, StreamError> {
        retire::retire_consumers(&self.core, shard, idle).await
    }

    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StreamError> {
        admin::epoch(&self.core, shard).await
    }

    async fn witness(&self, shard: u16) -> Result<Witness, StreamError> {
        witness::witness(&self.core, shard).await
    }

    fn trusted_epoch(&self, shard: u16) -> Option<Epoch> {
        self.core.trusted_last(shard)
    }

    fn trust_epoch(&self, shard: u16, epoch: Epoch) {
        self.core.trust_epoch(shard, epoch);
    }

    async fn pending_batches(&self, shard: u16) -> Result<Vec<PendingBatch>, StreamError> {
        admin::pending_batches(&self.core, shard).await
    }

    async fn pending_charges(&self, shard: u16) -> Result<Vec<(PendingBatch, Vec<Charge>)>, StreamError> {
        limits::pending_charges(&self.core, shard).await
    }

    async fn fence(&self, shard: u16, epoch: Epoch) -> Result<(), StreamError> {
        rebuild::fence(&self.core, shard, epoch).await
    }

    async fn restore_limits(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[(ProjectId, CounterState)],
    ) -> Result<bool, StreamError> {
        limits::restore(&self.core, shard, epoch, counters).await
    }

    async fn rebuild(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[ProjectCounters],
        expected: &[PendingBatch],
        floor: EntryId,
    ) -> Result<bool, StreamError> {
        rebuild::rebuild(&self.core, shard, epoch, counters, expected, floor).await
    }

    async fn counters(&self, projects: &[ProjectId]) -> Result<Vec<ProjectCounters>, StreamError> {
        admin::counters(&self.core, projects).await
    }
}
