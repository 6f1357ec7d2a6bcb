//! The events accepted and stored between two readings of the stream's counters. Pure: no I/O.

use std::collections::HashMap;

use millrace_event::plan::ProjectId;
use millrace_stream::ProjectCounters;

/// The counters of every project at one moment.
pub type Counters = HashMap<ProjectId, ProjectCounters>;

/// The difference between two readings.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Progress {
    /// Events accepted.
    pub accepted: u64,
    /// Events stored: neither duplicates nor dead letters.
    pub stored: u64,
    /// The projects whose counters have changed.
    pub projects: Vec<ProjectId>,
}

impl Progress {
    /// The difference between a reading and a later one. Leaves out a project that is in only one of them,
    /// and counts nothing when the counters were rebuilt in between.
    pub fn between(before: &Counters, after: &Counters) -> Self {
        let mut progress = Self::default();
        for (project, now) in after {
            let Some(then) = before.get(project).filter(|then| *then != now) else { continue };
            progress.projects.push(*project);
            progress.accepted += now.accepted.saturating_sub(then.accepted);
            progress.stored += stored(then, now);
        }
        progress
    }
}

/// Admission adds the events to `used` and to `pending`. Settling subtracts all events from `pending`, and
/// those that were not stored from `used`. So `used - pending` grows by exactly the stored events. When a
/// month begins, `used` starts at 0; then all settled events count.
fn stored(then: &ProjectCounters, now: &ProjectCounters) -> u64 {
    let ever = |counters: &ProjectCounters| {
        let accepted = if then.month == now.month { counters.used } else { counters.accepted };
        i64::try_from(accepted).unwrap_or(i64::MAX).saturating_sub(counters.pending)
    };
    u64::try_from(ever(now).saturating_sub(ever(then))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(accepted: u64, pending: i64, month: u32, used: u64) -> Counters {
        let project = ProjectId(1);
        HashMap::from([(project, ProjectCounters { project, accepted, pending, month, used })])
    }

    #[test]
    fn events_that_left_the_stream_without_a_refund_are_stored() {
        // 50 more accepted; 40 settled, of which 10 were duplicates.
        let progress = Progress::between(&counters(100, 20, 202_611, 100), &counters(150, 30, 202_611, 140));
        assert_eq!((progress.accepted, progress.stored), (50, 30));
        assert_eq!(progress.projects, [ProjectId(1)]);
    }

    #[test]
    fn a_new_month_does_not_subtract_from_the_stored_events() {
        let progress = Progress::between(&counters(100, 20, 202_611, 100), &counters(150, 30, 202_612, 50));
        assert_eq!((progress.accepted, progress.stored), (50, 40));
    }

    #[test]
    fn rebuilt_counters_and_new_projects_count_nothing() {
        let progress = Progress::between(&counters(100, 0, 202_611, 100), &counters(10, 0, 202_611, 10));
        assert_eq!((progress.accepted, progress.stored), (0, 0));
        assert_eq!(Progress::between(&Counters::new(), &counters(9, 0, 202_611, 9)), Progress::default());
        let same = counters(9, 0, 202_611, 9);
        assert_eq!(
            Progress::between(&same, &same),
            Progress::default(),
            "unchanged counters are no progress"
        );
    }
}
