//! What the counters of a stream must be that has lost its memory. Pure, and the same for every store.
//!
//! An entry that is pending will be settled once, whether it is written already or not: then its count is taken off
//! `pending`, and its duplicates and dead events are taken off `used`. So `pending` holds every such entry, and `used`
//! holds what will be refunded on top of what is stored.

use std::collections::HashMap;

use millrace_event::plan::{ProjectId, month_of};
use millrace_event::{Outcome, PendingBatch, ProjectCounters};

/// Counters that are being added up.
pub(super) struct Rebuild {
    month: u32,
    counters: HashMap<ProjectId, ProjectCounters>,
}

impl Rebuild {
    /// Microseconds since 1970 say which month it is.
    pub(super) fn at(now_us: u64) -> Self {
        Self { month: month_of(now_us), counters: HashMap::new() }
    }

    /// What the meters say of a project: events ever written, and events stored this month.
    pub(super) fn metered(&mut self, project: ProjectId, accepted: u64, used: u64) {
        let counter = self.counter(project);
        counter.accepted += accepted;
        counter.used += used;
    }

    /// A batch that stands in the stream, with its outcome when the ledger holds it.
    pub(super) fn pending(&mut self, batch: &PendingBatch, written: Option<Outcome>) {
        let is_this_month = month_of(batch.id.ms.saturating_mul(1_000)) == self.month;
        let counter = self.counter(batch.project);
        let events = u64::from(batch.count);
        counter.pending += i64::from(batch.count);
        let (accepted, to_use) = match written {
            Some(outcome) => (0, u64::from(outcome.duplicate) + u64::from(outcome.dead)),
            None => (events, events),
        };
        counter.accepted += accepted;
        if is_this_month {
            counter.used += to_use;
        }
    }

    /// The counters of the projects that live on this shard, in the order of their numbers.
    pub(super) fn of_shard(self, shard: u16, shards: u16) -> Vec<ProjectCounters> {
        let mut counters: Vec<_> = self.counters.into_values().collect();
        counters.retain(|counter| counter.project.shard(shards) == shard);
        counters.sort_unstable_by_key(|counter| counter.project);
        counters
    }

    fn counter(&mut self, project: ProjectId) -> &mut ProjectCounters {
        let zero = ProjectCounters { project, accepted: 0, pending: 0, month: self.month, used: 0 };
        self.counters.entry(project).or_insert(zero)
    }
}
