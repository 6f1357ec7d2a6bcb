//! What the stream says at one moment, and what has happened between two of them. No I/O in this room.

use std::collections::HashMap;

use millrace_event::plan::ProjectId;
use millrace_stream::ProjectCounters;

/// The counters of every project at one moment.
pub type Counters = HashMap<ProjectId, ProjectCounters>;

/// What has happened between two moments.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Moved {
    /// Events accepted.
    pub accepted: u64,
    /// Events stored: neither duplicates nor dead letters.
    pub stored: u64,
    /// Whose counters are others than before.
    pub projects: Vec<ProjectId>,
}

impl Moved {
    /// From one moment to a later one. Of projects that are not in both, and of counters that were rebuilt in between, nothing
    /// can be said.
    pub fn between(before: &Counters, after: &Counters) -> Self {
        let mut moved = Self::default();
        for (project, now) in after {
            let Some(then) = before.get(project).filter(|then| *then != now) else { continue };
            moved.projects.push(*project);
            moved.accepted += now.accepted.saturating_sub(then.accepted);
            moved.stored += stored(then, now);
        }
        moved
    }
}

/// Admission charges the month and makes pending, settling takes off what was pending and gives back what was not stored:
/// so `used - pending` grows by what was stored, and by nothing else. At the turn of a month `used` begins anew; then
/// everything settled counts.
fn stored(then: &ProjectCounters, now: &ProjectCounters) -> u64 {
    let ever = |counters: &ProjectCounters| {
        let taken = if then.month == now.month { counters.used } else { counters.accepted };
        i64::try_from(taken).unwrap_or(i64::MAX).saturating_sub(counters.pending)
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
    fn what_is_stored_is_what_left_the_stream_and_was_not_given_back() {
        // 50 more accepted; 40 settled, of which 10 were duplicates.
        let moved = Moved::between(&counters(100, 20, 202_611, 100), &counters(150, 30, 202_611, 140));
        assert_eq!((moved.accepted, moved.stored), (50, 30));
        assert_eq!(moved.projects, [ProjectId(1)]);
    }

    #[test]
    fn the_turn_of_a_month_is_no_fall() {
        let moved = Moved::between(&counters(100, 20, 202_611, 100), &counters(150, 30, 202_612, 50));
        assert_eq!((moved.accepted, moved.stored), (50, 40));
    }

    #[test]
    fn rebuilt_counters_and_new_projects_move_nothing() {
        let moved = Moved::between(&counters(100, 0, 202_611, 100), &counters(10, 0, 202_611, 10));
        assert_eq!((moved.accepted, moved.stored), (0, 0));
        assert_eq!(Moved::between(&Counters::new(), &counters(9, 0, 202_611, 9)), Moved::default());
        let same = counters(9, 0, 202_611, 9);
        assert_eq!(Moved::between(&same, &same), Moved::default(), "who stands still has not moved");
    }
}
