//! What batches use of limits and give back, and the counters that are rebuilt from that. Pure, and the same
//! for every store.

use std::collections::{BTreeMap, HashMap};

use millrace_event::limit::{Amount, Charge, Counter, CounterState, Refund};
use millrace_event::plan::ProjectId;
use millrace_event::{EntryId, PendingBatch};

use crate::limits::RequestCharges;
use crate::writer::{WriteOutcome, WriteRequest};

/// What one transaction adds to the tables of limits.
#[derive(Debug, Default)]
pub(crate) struct LimitTally {
    /// By counter and window.
    pub(crate) used: BTreeMap<(Counter, u64), LimitUse>,
    /// By batch and entry.
    pub(crate) refunds: Vec<(RefundKey, Vec<Refund>)>,
}

/// What a transaction adds to a counter in one window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LimitUse {
    pub(crate) project: ProjectId,
    /// When the window ends, in microseconds since 1970.
    pub(crate) ends_us: i64,
    pub(crate) amount: Amount,
}

/// The batch of an entry that gives something back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct RefundKey {
    pub(crate) batch_id: uuid::Uuid,
    /// In microseconds since 1970.
    pub(crate) received_us: i64,
    pub(crate) seq: i64,
    pub(crate) shard: i32,
}

impl RefundKey {
    pub(crate) fn of(request: &WriteRequest) -> Self {
        Self::new(request.batch_id, request.entry, request.shard)
    }

    pub(crate) fn new(batch_id: uuid::Uuid, entry: EntryId, shard: u16) -> Self {
        let received_us = i64::try_from(entry.ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        Self { batch_id, received_us, seq: entry.seq.cast_signed(), shard: shard.into() }
    }
}

impl LimitTally {
    pub(crate) fn is_empty(&self) -> bool {
        self.used.is_empty() && self.refunds.is_empty()
    }

    /// Adds a batch that is written now. `is_stored` says of each place in the batch whether its event is.
    pub(crate) fn add(
        &mut self,
        request: &WriteRequest,
        charges: &[Charge],
        is_stored: impl Fn(u32) -> bool,
    ) {
        let received_us = request.entry.ms.saturating_mul(1_000);
        for charge in charges {
            let kept = charge.refund(|event| !is_stored(event));
            if let Some(Refund { counter, amount }) = kept {
                let window = counter.period.window(received_us);
                let ends_us = counter.period.bounds_us(received_us).1.cast_signed();
                let unused = LimitUse { project: request.project, ends_us, amount: Amount::ZERO };
                let used = self.used.entry((counter, window)).or_insert(unused);
                used.amount = used.amount.plus(amount);
            }
        }
        let refunds: Vec<_> = charges.iter().filter_map(|charge| charge.refund(&is_stored)).collect();
        if !refunds.is_empty() {
            self.refunds.push((RefundKey::of(request), refunds));
        }
    }
}

/// Requests that may give something back: those with charges whose batch has events that were not stored.
pub(crate) fn refunding(
    requests: &[WriteRequest],
    outcomes: &[WriteOutcome],
    charges: &RequestCharges,
) -> Vec<(usize, RefundKey)> {
    let may_refund = |index: &&usize| {
        let outcome = outcomes[**index].outcome;
        outcome.duplicate + outcome.dead > 0
    };
    charges.keys().filter(may_refund).map(|index| (*index, RefundKey::of(&requests[*index]))).collect()
}

/// The counters of limits of a stream that lost its data.
///
/// A pending batch will be settled once, whether it is written or not. Settling gives back what its events
/// took that are not stored. So a counter must include, in addition to what stored events took, everything
/// that was charged for batches that are not written, and what written ones are going to give back.
#[derive(Debug, Default)]
pub(crate) struct LimitRebuild(HashMap<(ProjectId, Counter), (u64, Amount)>);

impl LimitRebuild {
    /// Adds what was used in a window. Of several windows, the latest counts.
    pub(crate) fn add(&mut self, project: ProjectId, counter: Counter, window: u64, amount: Amount) {
        let (latest, used) = self.0.entry((project, counter)).or_insert((window, Amount::ZERO));
        if window > *latest {
            (*latest, *used) = (window, amount);
        } else if window == *latest {
            *used = used.plus(amount);
        }
    }

    /// Adds a batch in the stream, with what it gives back if it is in the ledger.
    pub(crate) fn add_pending(
        &mut self,
        batch: &PendingBatch,
        charges: &[Charge],
        written: Option<Vec<Refund>>,
    ) {
        let all = |charge: &Charge| Refund { counter: charge.counter.clone(), amount: charge.amount() };
        let amounts = written.unwrap_or_else(|| charges.iter().map(all).collect());
        for Refund { counter, amount } in amounts {
            let window = counter.period.window(batch.id.ms.saturating_mul(1_000));
            self.add(batch.project, counter, window, amount);
        }
    }

    /// The counters of the projects on this shard, in order.
    pub(crate) fn of_shard(self, shard: u16, shards: u16) -> Vec<(ProjectId, CounterState)> {
        let of_shard = self.0.into_iter().filter(|((project, _), _)| project.shard(shards) == shard);
        let state = |((project, counter), (window, used))| (project, CounterState { counter, window, used });
        let mut states: Vec<_> = of_shard.map(state).collect();
        states.sort_unstable_by(|one, next| (one.0, &one.1.counter).cmp(&(next.0, &next.1.counter)));
        states
    }
}
