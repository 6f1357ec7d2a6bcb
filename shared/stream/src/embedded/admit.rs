//! Admission of one batch, as one of many in a write transaction.

use super::group::Group;
use super::limits::{self, Checked};
use super::markers::{self, Marker};
use super::memory_markers::MemoryMarker;
use super::position::Position;
use super::transaction::WriteTransaction;
use crate::{Admission, Decision, Epoch};
use millrace_event::entry::NewBatch;
use millrace_event::plan::{Plan, Refusal, month_of};

/// An [`Admission`] that can be sent to the writer thread.
pub(super) struct AdmitRequest {
    batch: NewBatch,
    plan: Plan,
    digest: Option<[u8; 16]>,
    awaited: bool,
    /// The epoch that the caller trusts.
    trusted: Epoch,
    /// Events that may wait.
    backlog_events_max: u64,
}

impl AdmitRequest {
    pub(super) fn new(admission: &Admission<'_>, trusted: Epoch, backlog_events_max: u64) -> Self {
        Self {
            batch: admission.batch.clone(),
            plan: admission.plan.clone(),
            digest: admission.digest,
            awaited: admission.awaited,
            trusted,
            backlog_events_max,
        }
    }

    /// Bytes that the request adds to a transaction, at most.
    pub(super) fn bytes(&self) -> usize {
        self.batch.held_bytes()
    }

    /// Decides, and adds an admitted batch to the group of the transaction. All checks are before the first
    /// change.
    pub(super) fn admit_in(&self, transaction: &mut WriteTransaction<'_>) -> rusqlite::Result<Decision> {
        if transaction.counters.shard.epoch != Some(self.trusted) {
            return Ok(Decision::EpochChanged);
        }
        if transaction.group.as_ref().is_some_and(|group| !group.has_room_for(&self.batch)) {
            transaction.append_group()?;
        }
        let Self { batch, plan, .. } = self;
        let (file, counters) = (transaction.file, &mut transaction.counters);
        let now_us = transaction.group.as_ref().map_or_else(|| counters.shard.now_us(), |group| group.now_us);
        let mut project = counters.project(file, batch.project)?;
        let limit_state = project.limit_state(now_us);
        let in_memory = transaction.markers.received_ms(batch.batch_id, now_us / 1_000);
        let known = match in_memory.map(|received_ms| Marker { received_ms, digest: None }) {
            Some(marker) => Some(marker),
            None => markers::find(file, batch.batch_id, now_us / 1_000)?,
        };
        if let Some(marker) = known {
            let differs = marker.digest.is_some() && self.digest.is_some() && marker.digest != self.digest;
            return Ok(match differs {
                true => Decision::Conflict { limit_state },
                false => Decision::Repeated { received_ms: marker.received_ms, limit_state },
            });
        }
        let count = u64::from(batch.count);
        if counters.shard.events + count > self.backlog_events_max {
            return Ok(Decision::BacklogFull { limit_state });
        }
        let charged = match limit_state.charge(plan, count) {
            Ok(charged) => charged,
            Err(Refusal::Rate { wait_us }) => return Ok(Decision::RateLimited { wait_us, limit_state }),
            Err(Refusal::Quota) => return Ok(Decision::QuotaExceeded { limit_state }),
        };
        if !batch.charges.is_empty() {
            match limits::check(file, batch.project, &batch.charges, now_us)? {
                Checked::Over { used } => return Ok(Decision::LimitExceeded { limit_state, used }),
                Checked::Within { after } => {
                    limits::set(file, batch.project, &batch.charges, after, now_us)?;
                }
            }
        }

        counters.shard.events += count;
        (project.tat_us, project.used) = (charged.tat_us, charged.used);
        project.month = month_of(now_us);
        project.accepted += count;
        project.pending += i64::from(batch.count);
        counters.set_project(batch.project, project);
        let received_ms = self.add_to_group(transaction, now_us);
        self.mark(transaction, received_ms)?;
        Ok(Decision::Admitted { received_ms, limit_state: charged })
    }

    /// Adds the batch to the group, which it begins if there is none. Returns when the batch is received.
    fn add_to_group(&self, transaction: &mut WriteTransaction<'_>, now_us: u64) -> u64 {
        let shard = &mut transaction.counters.shard;
        let group = transaction.group.get_or_insert_with(|| {
            shard.last = shard.last.next().max(Position::at_ms(now_us / 1_000));
            shard.entries += 1;
            Group::new(shard.last, now_us)
        });
        group.add(self.batch.clone());
        group.position.ms()
    }

    /// Adds the marker of the batch: in the file when it has a key, or when there is no room in memory.
    fn mark(&self, transaction: &mut WriteTransaction<'_>, received_ms: u64) -> rusqlite::Result<()> {
        let NewBatch { batch_id, project, count, .. } = self.batch;
        let keep_ms = markers::keep_ms(self.digest.is_some(), self.awaited);
        let marker = MemoryMarker { project, count, received_ms, keep_ms };
        if self.digest.is_some() || !transaction.markers.add(batch_id, marker) {
            markers::insert(transaction.file, batch_id, &marker, self.digest)?;
        }
        Ok(())
    }
}
