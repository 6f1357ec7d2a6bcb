//! Recomputes the counters of a stream that lost its data. Pure, and the same for every store.
//!
//! A pending entry will be settled once, whether it is already written or not. Settling subtracts its events
//! from `pending`, and its duplicates and dead events from `used`. So `pending` must include every such
//! entry, and `used` must include the events that will be refunded, in addition to the stored ones.

use std::collections::HashMap;

use millrace_event::plan::{ProjectId, month_of};
use millrace_event::{Outcome, PendingBatch, ProjectCounters};

pub(super) struct Rebuild {
    month: u32,
    counters: HashMap<ProjectId, ProjectCounters>,
}

impl Rebuild {
    /// `now_us` is in microseconds since 1970.
    pub(super) fn new(now_us: u64) -> Self {
        Self { month: month_of(now_us), counters: HashMap::new() }
    }

    /// Adds the usage of a project: events ever written, and events stored this month.
    pub(super) fn add_usage(&mut self, project: ProjectId, accepted: u64, used: u64) {
        let counter = self.counter(project);
        counter.accepted += accepted;
        counter.used += used;
    }

    /// Adds a batch in the stream, with its outcome if it is in the ledger.
    pub(super) fn add_pending(&mut self, batch: &PendingBatch, written: Option<Outcome>) {
        let is_this_month = month_of(batch.id.ms.saturating_mul(1_000)) == self.month;
        let counter = self.counter(batch.project);
        let events = u64::from(batch.count);
        counter.pending += i64::from(batch.count);
        let (accepted, used) = match written {
            Some(outcome) => (0, u64::from(outcome.duplicate) + u64::from(outcome.dead)),
            None => (events, events),
        };
        counter.accepted += accepted;
        if is_this_month {
            counter.used += used;
        }
    }

    /// The counters of the projects on this shard, ordered by project.
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
