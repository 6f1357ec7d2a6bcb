//! The audit of limits of customers: whether each counter of the stream is what the store derives for it.
//!
//! The store records what stored events took. A counter must be that, what batches took that are not written
//! yet, and what written batches give back when they are settled: exactly what it would be rebuilt to. Both
//! sides cannot be read at the same moment, so the stream is read before and after the store. A counter that
//! was the same both times, with the same batches waiting to be settled, must equal the store's.
//!
//! An audit only reads; it must never repair a counter.

use std::collections::{BTreeMap, HashMap};

use millrace_event::limit::{Amount, Charge, Counter, CounterState};
use millrace_event::plan::ProjectId;
use millrace_event::{BatchId, EntryId, PendingBatch};
use millrace_store::{Erasure, Store, StoreError};
use millrace_stream::{Stream, StreamError};
use time::OffsetDateTime;

use crate::audit::AuditError;

/// Counters that are read by one call.
const CHUNK_COUNTERS: usize = 1_000;

/// The latest erasures of a project that are looked at.
const ERASURES_MAX: u32 = 100;

/// A counter that is not what the store derives for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitViolation {
    pub project: ProjectId,
    pub counter: Counter,
    /// By the store.
    pub expected: Amount,
    /// In the stream.
    pub found: Amount,
}

/// What an audit of limits has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LimitAudit {
    /// Counters that were compared.
    pub compared: u64,
    /// Counters that moved during the readings and were not compared.
    pub moving: u64,
    /// Empty when every compared counter is correct.
    pub violations: Vec<LimitViolation>,
}

/// A counter, as it was read from the stream: the time on its clock, in microseconds since 1970, and what is
/// used in the window of that time.
type Reading = (u64, Amount);

/// The batches that were charged to a counter and are not settled: entry and batch.
type Waiting = HashMap<(ProjectId, Counter), Vec<(EntryId, BatchId)>>;

impl LimitAudit {
    /// Whether every compared counter is correct.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// Compares one counter. A window that has ended for the stream is that of no counter any more.
    fn compare(
        &mut self,
        project: ProjectId,
        expected: CounterState,
        [before, after]: [Reading; 2],
        has_moved: bool,
    ) {
        let CounterState { counter, window, used } = expected;
        let [in_before, in_after] = [before, after].map(|(now_us, _)| counter.period.window(now_us));
        if in_before == in_after && window < in_before {
            return;
        }
        if has_moved || in_before != window || in_after != window || before.1 != after.1 {
            self.moving += 1;
            return;
        }
        self.compared += 1;
        if used != after.1 {
            self.violations.push(LimitViolation { project, counter, expected: used, found: after.1 });
        }
    }
}

/// Compares every counter of which the store knows. A shard whose epoch is not the recorded one is left out:
/// its counters are not trusted. Reads nothing of the stream where no limit was ever set.
///
/// # Errors
/// [`AuditError`] when the stream or the store cannot be read.
pub async fn audit_limits(stream: &dyn Stream, store: &dyn Store) -> Result<LimitAudit, AuditError> {
    let mut audit = LimitAudit::default();
    if store.limit_versions().await?.is_empty() {
        return Ok(audit);
    }
    for shard in 0..stream.shards() {
        let epoch = stream.epoch(shard).await?;
        if epoch.is_none() || epoch != store.epoch(shard).await? {
            continue;
        }
        match audit_shard(stream, store, shard, &mut audit).await {
            // The counters are being rebuilt.
            Err(AuditError::Stream(StreamError::EpochChanged)) => {}
            result => result?,
        }
    }
    leave_out_erased(store, &mut audit).await?;
    Ok(audit)
}

/// The erasure of a customer removes what was recorded, and the stream keeps its counter to the end of the
/// window. Whose counter it was is not known any more, so no counter of the project can be too high by it.
async fn leave_out_erased(store: &dyn Store, audit: &mut LimitAudit) -> Result<(), StoreError> {
    let now_us = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000;
    let now_us = u64::try_from(now_us).unwrap_or_default();
    for violation in std::mem::take(&mut audit.violations) {
        let begin_us = i128::from(violation.counter.period.bounds_us(now_us).0);
        let is_recent = |erasure: &Erasure| {
            erasure.finished_at.is_none_or(|at| at.unix_timestamp_nanos() / 1_000 >= begin_us)
        };
        let erasures = match violation.found > violation.expected {
            true => store.erasures(Some(violation.project), ERASURES_MAX).await?,
            false => Vec::new(),
        };
        if erasures.iter().any(is_recent) {
            audit.compared -= 1;
        } else {
            audit.violations.push(violation);
        }
    }
    Ok(())
}

async fn audit_shard(
    stream: &dyn Stream,
    store: &dyn Store,
    shard: u16,
    audit: &mut LimitAudit,
) -> Result<(), AuditError> {
    let shards = stream.shards();
    let derived = async || {
        let pending = stream.pending_charges(shard).await?;
        Ok::<_, AuditError>((store.limits_for_rebuild(shard, shards, &pending).await?, pending))
    };
    let (states, pending) = derived().await?;
    let mut counters: BTreeMap<ProjectId, Vec<Counter>> = BTreeMap::new();
    for (project, state) in states {
        counters.entry(project).or_default().push(state.counter);
    }
    let waiting_first = waiting(&pending);
    let used_before = used(stream, &counters).await?;
    let (expected, pending) = derived().await?;
    let waiting_between = waiting(&pending);
    let used_after = used(stream, &counters).await?;
    // A batch that waits in the first list and in the last is settled between none of the readings.
    let waiting_last = waiting(&stream.pending_charges(shard).await?);
    for (project, state) in expected {
        let key = (project, state.counter.clone());
        // One that was first used during the readings.
        let (Some(before), Some(after)) = (used_before.get(&key), used_after.get(&key)) else {
            audit.moving += 1;
            continue;
        };
        let [first, between, last] =
            [&waiting_first, &waiting_between, &waiting_last].map(|list| list.get(&key));
        audit.compare(project, state, [*before, *after], first != between || between != last);
    }
    Ok(())
}

async fn used(
    stream: &dyn Stream,
    counters: &BTreeMap<ProjectId, Vec<Counter>>,
) -> Result<BTreeMap<(ProjectId, Counter), Reading>, StreamError> {
    let mut readings = BTreeMap::new();
    for (project, counters) in counters {
        for chunk in counters.chunks(CHUNK_COUNTERS) {
            let (now_us, amounts) = stream.limits_used(*project, chunk).await?;
            let keys = chunk.iter().map(|counter| (*project, counter.clone()));
            readings.extend(keys.zip(amounts.into_iter().map(|amount| (now_us, amount))));
        }
    }
    Ok(readings)
}

fn waiting(pending: &[(PendingBatch, Vec<Charge>)]) -> Waiting {
    let mut waiting = Waiting::new();
    for (batch, charges) in pending {
        for charge in charges {
            let key = (batch.project, charge.counter.clone());
            waiting.entry(key).or_default().push((batch.id, batch.batch_id));
        }
    }
    waiting
}

#[cfg(test)]
mod tests {
    use millrace_event::limit::Period;
    use millrace_event::meter::MeterId;

    use super::*;

    const DAY_US: u64 = 86_400_000_000;

    fn compared(window: u64, used: u64, readings: [(u64, u64); 2], has_moved: bool) -> LimitAudit {
        let counter = Counter { meter: MeterId(1), period: Period::Day, subject: "acme".to_owned() };
        let expected = CounterState { counter, window, used: Amount::of_parts(used, 0) };
        let readings = readings.map(|(day, units)| (day * DAY_US + 5, Amount::of_parts(units, 0)));
        let mut audit = LimitAudit::default();
        audit.compare(ProjectId(7), expected, readings, has_moved);
        audit
    }

    #[test]
    fn a_counter_at_rest_must_equal_what_the_store_derives() {
        let audit = compared(20, 9, [(20, 9), (20, 9)], false);
        assert!(audit.holds() && audit.compared == 1, "{audit:?}");
        for found in [8, 10] {
            let audit = compared(20, 9, [(20, found), (20, found)], false);
            assert_eq!(audit.violations.len(), 1, "{audit:?}");
            assert_eq!(audit.violations[0].found, Amount::of_parts(found, 0));
        }
    }

    #[test]
    fn a_counter_that_moves_during_the_readings_is_not_compared() {
        for (readings, has_moved) in [
            ([(20, 8), (20, 9)], false),
            ([(20, 8), (20, 8)], true),
            ([(20, 8), (21, 0)], false),
            ([(19, 0), (19, 0)], false),
        ] {
            let audit = compared(20, 9, readings, has_moved);
            assert!(audit.holds() && audit.moving == 1, "{readings:?}: {audit:?}");
        }
    }

    #[test]
    fn a_window_that_has_ended_is_that_of_no_counter() {
        assert_eq!(compared(20, 9, [(21, 0), (21, 0)], false), LimitAudit::default());
    }
}
