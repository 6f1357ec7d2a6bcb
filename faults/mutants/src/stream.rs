//! The stream of the product with a bug around it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use millrace_event::limit::{Amount, Charge, Counter, CounterState};
use millrace_event::plan::{LimitState, Plan, ProjectId, Refusal};
use millrace_event::{BatchId, EntryId, Epoch, PendingBatch, ProjectCounters};
use millrace_stream::{
    Admission, Backlog, BatchState, Decision, DurabilityReport, Reader, Settlement, SharedStream, Stream,
    StreamError, Witness,
};
use uuid::Uuid;

use crate::mutant::Mutant;
use crate::reader::MutantReader;
use crate::redis::Redis;

pub struct MutantStream {
    inner: SharedStream,
    mutant: Mutant,
    /// `None` when the stream is a file.
    redis: Option<Arc<Redis>>,
    /// Batches whose admission got no answer and that were not asked for again yet.
    unanswered: Mutex<HashSet<BatchId>>,
}

impl MutantStream {
    pub fn new(inner: SharedStream, mutant: Mutant, redis: Option<Arc<Redis>>) -> Self {
        Self { inner, mutant, redis, unanswered: Mutex::default() }
    }

    fn redis_of(&self, mutant: Mutant) -> Option<&Arc<Redis>> {
        self.redis.as_ref().filter(|_| self.mutant == mutant)
    }

    async fn admit_under_new_id(&self, admission: &Admission<'_>) -> Result<Decision, StreamError> {
        let batch_id = admission.batch.batch_id;
        let is_retry = self.unanswered.lock().expect("it is not poisoned").remove(&batch_id);
        if is_retry {
            let batch = admission.batch.with_id(Uuid::now_v7());
            return self.inner.admit(&Admission { batch: &batch, ..admission.clone() }).await;
        }
        let answer = self.inner.admit(admission).await;
        if matches!(answer, Err(StreamError::Unknown(_))) {
            self.unanswered.lock().expect("it is not poisoned").insert(batch_id);
        }
        answer
    }

    async fn admit_after_a_check(&self, admission: &Admission<'_>) -> Result<Decision, StreamError> {
        let Admission { batch, plan, .. } = *admission;
        let limit_state = self.inner.limit_state(batch.project).await?;
        match limit_state.charge(plan, batch.count.into()) {
            Err(Refusal::Rate { wait_us }) => return Ok(Decision::RateLimited { wait_us, limit_state }),
            Err(Refusal::Quota) => return Ok(Decision::QuotaExceeded { limit_state }),
            Ok(_) => {}
        }
        let unlimited = Plan { burst: u32::MAX, events_per_month: None, ..plan.clone() };
        self.inner.admit(&Admission { plan: &unlimited, ..admission.clone() }).await
    }
}

#[async_trait]
impl Stream for MutantStream {
    fn shards(&self) -> u16 {
        self.inner.shards()
    }

    fn for_another_runtime(self: Arc<Self>) -> SharedStream {
        let inner = Arc::clone(&self.inner).for_another_runtime();
        Arc::new(Self::new(inner, self.mutant, self.redis.clone()))
    }

    async fn admit(&self, admission: &Admission<'_>) -> Result<Decision, StreamError> {
        let answer = match self.mutant {
            Mutant::NewBatchIdOnRetry => self.admit_under_new_id(admission).await,
            Mutant::LimitsCheckedBefore => self.admit_after_a_check(admission).await,
            _ => self.inner.admit(admission).await,
        };
        if let (Some(redis), Ok(Decision::Admitted { .. })) = (self.redis_of(Mutant::Maxlen), &answer) {
            redis.trim(admission.batch.project.shard(self.shards())).await;
        }
        answer
    }

    async fn batch_state(&self, project: ProjectId, batch_id: BatchId) -> Result<BatchState, StreamError> {
        self.inner.batch_state(project, batch_id).await
    }

    async fn limit_state(&self, project: ProjectId) -> Result<LimitState, StreamError> {
        self.inner.limit_state(project).await
    }

    async fn limits_used(
        &self,
        project: ProjectId,
        counters: &[Counter],
    ) -> Result<(u64, Vec<Amount>), StreamError> {
        self.inner.limits_used(project, counters).await
    }

    async fn backlog(&self) -> Result<Backlog, StreamError> {
        self.inner.backlog().await
    }

    async fn durability_report(&self, shard: u16) -> Result<DurabilityReport, StreamError> {
        let mut report = self.inner.durability_report(shard).await?;
        if self.mutant == Mutant::Everysec {
            report.faults.retain(|fault| !fault.contains("everysec"));
        }
        Ok(report)
    }

    async fn check_writable(&self, shard: u16) -> Result<(), StreamError> {
        self.inner.check_writable(shard).await
    }

    async fn reader(&self, shard: u16, consumer: &str) -> Result<Box<dyn Reader>, StreamError> {
        if let Some(redis) = self.redis_of(Mutant::GroupAtTheEnd) {
            redis.create_group_at_the_end(shard).await;
        }
        let inner = self.inner.reader(shard, consumer).await?;
        let redis = self.redis.clone();
        Ok(Box::new(MutantReader { inner, mutant: self.mutant, redis, shard, consumer: consumer.to_owned() }))
    }

    async fn settle(&self, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError> {
        let settled = self.inner.settle(shard, settlements).await?;
        for batch in settlements.iter().flat_map(|settlement| &settlement.batches) {
            if let Some(redis) = self.redis_of(Mutant::MarkerForgottenAtSettle) {
                redis.forget_batch(shard, batch.batch_id).await;
            }
            if let Some(redis) = self.redis_of(Mutant::GroupForgottenAtSettle) {
                redis.forget_group(shard, batch.batch_id).await;
            }
        }
        Ok(settled)
    }

    async fn note_attempt(&self, shard: u16, id: EntryId) -> Result<u32, StreamError> {
        self.inner.note_attempt(shard, id).await
    }

    async fn forget_attempts(&self, shard: u16, id: EntryId) -> Result<(), StreamError> {
        if self.mutant == Mutant::FailureCountsAsPoison {
            return Ok(());
        }
        self.inner.forget_attempts(shard, id).await
    }

    async fn retire_consumers(&self, shard: u16, idle: Duration) -> Result<u64, StreamError> {
        self.inner.retire_consumers(shard, idle).await
    }

    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StreamError> {
        self.inner.epoch(shard).await
    }

    async fn witness(&self, shard: u16) -> Result<Witness, StreamError> {
        self.inner.witness(shard).await
    }

    fn trusted_epoch(&self, shard: u16) -> Option<Epoch> {
        self.inner.trusted_epoch(shard)
    }

    fn trust_epoch(&self, shard: u16, epoch: Epoch) {
        self.inner.trust_epoch(shard, epoch);
    }

    async fn pending_batches(&self, shard: u16) -> Result<Vec<PendingBatch>, StreamError> {
        self.inner.pending_batches(shard).await
    }

    async fn pending_charges(&self, shard: u16) -> Result<Vec<(PendingBatch, Vec<Charge>)>, StreamError> {
        self.inner.pending_charges(shard).await
    }

    async fn fence(&self, shard: u16, epoch: Epoch) -> Result<(), StreamError> {
        self.inner.fence(shard, epoch).await
    }

    async fn restore_limits(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[(ProjectId, CounterState)],
    ) -> Result<bool, StreamError> {
        let counters = if self.mutant == Mutant::LimitsForgottenAtRebuild { &[] } else { counters };
        self.inner.restore_limits(shard, epoch, counters).await
    }

    async fn rebuild(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[ProjectCounters],
        expected: &[PendingBatch],
        floor: EntryId,
    ) -> Result<bool, StreamError> {
        if let Some(redis) = self.redis_of(Mutant::GroupAtTheEnd) {
            redis.create_group_at_the_end(shard).await;
        }
        self.inner.rebuild(shard, epoch, counters, expected, floor).await
    }

    async fn counters(&self, projects: &[ProjectId]) -> Result<Vec<ProjectCounters>, StreamError> {
        self.inner.counters(projects).await
    }
}
