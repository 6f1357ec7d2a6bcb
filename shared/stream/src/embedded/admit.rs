//! Admission of one batch, as one of many in a write transaction.

use super::markers;
use super::position::Position;
use super::transaction::WriteTransaction;
use crate::{Admission, Decision, Epoch};
use millrace_event::entry::PackedBatch;
use millrace_event::plan::{Plan, Refusal, month_of};

/// An [`Admission`] that can be sent to the writer thread.
pub(super) struct AdmitRequest {
    packed: PackedBatch,
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
            packed: admission.packed.clone(),
            plan: admission.plan.clone(),
            digest: admission.digest,
            awaited: admission.awaited,
            trusted,
            backlog_events_max,
        }
    }

    /// Bytes that the request adds to a transaction.
    pub(super) fn bytes(&self) -> usize {
        self.packed.data.len()
    }

    /// Decides, and appends and counts an admitted batch. All checks are before the first change.
    pub(super) fn admit_in(&self, transaction: &mut WriteTransaction<'_>) -> rusqlite::Result<Decision> {
        let Self { packed, plan, .. } = self;
        let (file, counters) = (transaction.file, &mut transaction.counters);
        if counters.shard.epoch != Some(self.trusted) {
            return Ok(Decision::EpochChanged);
        }
        let now_us = counters.shard.now_us();
        let mut project = counters.project(file, packed.project)?;
        let limit_state = project.limit_state(now_us);
        if let Some(marker) = markers::find(file, packed.batch_id, now_us / 1_000)? {
            let differs = marker.digest.is_some() && self.digest.is_some() && marker.digest != self.digest;
            return Ok(match differs {
                true => Decision::Conflict { limit_state },
                false => Decision::Repeated { received_ms: marker.received_ms, limit_state },
            });
        }
        let count = u64::from(packed.count);
        if counters.shard.events + count > self.backlog_events_max {
            return Ok(Decision::BacklogFull { limit_state });
        }
        let charged = match limit_state.charge(plan, count) {
            Ok(charged) => charged,
            Err(Refusal::Rate { wait_us }) => return Ok(Decision::RateLimited { wait_us, limit_state }),
            Err(Refusal::Quota) => return Ok(Decision::QuotaExceeded { limit_state }),
        };

        let position = counters.shard.last.next().max(Position::at_ms(now_us / 1_000));
        counters.shard.last = position;
        counters.shard.entries += 1;
        counters.shard.events += count;
        counters.shard.bytes += packed.data.len() as u64;
        (project.tat_us, project.used) = (charged.tat_us, charged.used);
        project.month = month_of(now_us);
        project.accepted += count;
        project.pending += i64::from(packed.count);
        counters.set_project(packed.project, project);
        append(transaction, position, packed)?;
        let admission = Admission { packed, plan, digest: self.digest, awaited: self.awaited };
        markers::insert(file, &admission, position.ms())?;
        Ok(Decision::Admitted { received_ms: position.ms(), limit_state: charged })
    }
}

fn append(
    transaction: &mut WriteTransaction<'_>,
    position: Position,
    packed: &PackedBatch,
) -> rusqlite::Result<()> {
    let mut insert =
        transaction.file.prepare_cached("INSERT INTO entries VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)")?;
    let (batch_id, project) = (packed.batch_id.as_bytes(), packed.project.0);
    insert.execute((position, batch_id, project, packed.count, packed.rows_bytes, &packed.data[..]))?;
    transaction.appended.push((position, packed.clone()));
    Ok(())
}
