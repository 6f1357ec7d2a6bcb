//! The audit: whether every event that was accepted is accounted for.
//!
//! For each project, accepted = stored + duplicate + dead-lettered + pending. The stream counts the left side
//! and the store counts the right side. Both cannot be read at the same moment, so the stream is read before
//! and after the store. If the two readings of the stream are equal and nothing is pending, the two sides
//! must be equal. Otherwise the store's sum must lie between the events settled before and the events
//! accepted after.
//!
//! An audit only reads; it must never repair a counter.

use std::collections::HashMap;

use millrace_event::plan::{ProjectId, month_of};
use millrace_store::{ProjectTotals, Store, StoreError};
use millrace_stream::{ProjectCounters, Stream, StreamError};

/// Entries too damaged to show their project are metered under this id. The stream accepts nothing under it.
const UNREADABLE: ProjectId = ProjectId(0);

/// A rule that an installation must obey at all times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// accepted = stored + duplicate + dead + pending.
    Conservation,
    /// The stream's charge for the month equals the events stored in that month.
    Quota,
    /// Over the hours that the ledger still covers, ledger and usage count the same number of stored events.
    LedgerStored,
    /// The same for duplicates.
    LedgerDuplicate,
    /// The same for dead letters.
    LedgerDead,
    /// `events` has one row for each event metered as stored.
    EventRows,
    /// `cancellations` has one row for each event metered as cancelled.
    CancelledRows,
    /// `dead_letters` holds one event for each event metered as dead.
    DeadRows,
}

impl Rule {
    /// The rule in words.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Conservation => "accepted = stored + duplicate + dead + pending",
            Self::Quota => "the month's quota use = events stored this month",
            Self::LedgerStored => "stored events in usage = stored events in the ledger",
            Self::LedgerDuplicate => "duplicates in usage = duplicates in the ledger",
            Self::LedgerDead => "dead letters in usage = dead letters in the ledger",
            Self::EventRows => "events metered as stored = rows in events",
            Self::CancelledRows => "events metered as cancelled = rows in cancellations",
            Self::DeadRows => "events metered as dead = events in dead_letters",
        }
    }
}

/// A rule that is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Violation {
    pub rule: Rule,
    /// The least that `found` may be.
    pub at_least: u64,
    /// The most that `found` may be; equal to `at_least` when the counters did not move.
    pub at_most: u64,
    /// The count on the right side of the rule.
    pub found: u64,
}

impl Violation {
    /// Distance from the allowed range: negative when events are missing, positive when there are too many.
    pub fn difference(&self) -> i128 {
        let found = i128::from(self.found);
        if self.found < self.at_least {
            found - i128::from(self.at_least)
        } else {
            found - i128::from(self.at_most)
        }
    }
}

/// The readings of one project, in the order in which they are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// The stream, before the store.
    pub before: ProjectCounters,
    /// The store, in one snapshot.
    pub totals: ProjectTotals,
    /// The stream, after the store.
    pub after: ProjectCounters,
    /// Whether the totals include counted rows.
    pub rows_counted: bool,
    /// The calendar month during all three readings; `None` when it changed, and the quota is not checked.
    pub month: Option<u32>,
}

/// The balance of one project.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Balance {
    pub project: ProjectId,
    /// Events ever admitted.
    pub accepted: u64,
    /// Of the accepted events, those that are not settled yet.
    pub pending: i64,
    /// Events ever stored, cancelled events included.
    pub stored: u64,
    /// The part of the stored events that was cancelled.
    pub cancelled: u64,
    /// Events that were already stored when they arrived.
    pub duplicate: u64,
    /// Events dead-lettered.
    pub dead: u64,
    /// The counters did not move during the readings and nothing is pending, so the sides had to be equal.
    pub exact: bool,
    /// Empty when the balance holds.
    pub violations: Vec<Violation>,
}

impl Balance {
    /// Whether every rule is obeyed.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Checks the rules for one project. Events that move during the readings never cause a violation.
pub fn check(evidence: &Evidence) -> Balance {
    let Evidence { before, totals, after, .. } = evidence;
    let exact = before == after && after.pending == 0;
    let mut violations = Vec::new();
    let mut demand = |rule, at_least: u64, at_most: u64, found: u64| {
        if found < at_least || found > at_most {
            violations.push(Violation { rule, at_least, at_most, found });
        }
    };
    if after.project != UNREADABLE {
        let (least, most) = accounted_bounds(before, after);
        demand(Rule::Conservation, least, most, totals.stored + totals.duplicate + totals.dead);
        if let (true, Some(month)) = (exact, evidence.month) {
            let used = if after.month == month { after.used } else { 0 };
            demand(Rule::Quota, used, used, totals.stored_this_month);
        }
    }
    let (ledger, hours) = (totals.ledger, totals.ledger_hours);
    demand(Rule::LedgerStored, hours.stored, hours.stored, ledger.stored);
    demand(Rule::LedgerDuplicate, hours.duplicate, hours.duplicate, ledger.duplicate);
    demand(Rule::LedgerDead, hours.dead, hours.dead, ledger.dead);
    if evidence.rows_counted {
        demand(Rule::EventRows, totals.stored, totals.stored, totals.event_rows);
        demand(Rule::CancelledRows, totals.cancelled, totals.cancelled, totals.cancelled_rows);
        demand(Rule::DeadRows, totals.dead, totals.dead, totals.dead_rows);
    }
    Balance {
        project: after.project,
        accepted: after.accepted,
        pending: after.pending,
        stored: totals.stored,
        cancelled: totals.cancelled,
        duplicate: totals.duplicate,
        dead: totals.dead,
        exact,
        violations,
    }
}

/// The bounds on the events that the store accounts for: at least those settled before it was read, because
/// settling follows the commit, and at most those accepted after, because the commit follows the admission. A
/// negative pending count means that this many more events were settled than the stream has counted as
/// admitted.
fn accounted_bounds(before: &ProjectCounters, after: &ProjectCounters) -> (u64, u64) {
    let pending_before = before.pending.max(0).unsigned_abs();
    let uncounted_after = after.pending.min(0).unsigned_abs();
    (before.accepted.saturating_sub(pending_before), after.accepted + uncounted_after)
}

/// The stream or the store could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the stream, the store and the stream again, and checks every project that appears in all three
/// readings. `count_rows` also counts the rows of the tables, which takes long when they are large.
///
/// # Errors
/// [`AuditError`] when the stream or the store cannot be read.
pub async fn audit(
    stream: &dyn Stream,
    store: &dyn Store,
    count_rows: bool,
) -> Result<Vec<Balance>, AuditError> {
    let projects = projects(store).await?;
    let month_before = current_month();
    let before = counters(stream, &projects).await?;
    let totals = store.totals(count_rows).await?;
    let after = counters(stream, &projects).await?;
    let month = Some(current_month()).filter(|month| *month == month_before);
    let balances = totals.into_iter().filter_map(|totals| {
        let project = totals.project;
        let (before, after) = (*before.get(&project)?, *after.get(&project)?);
        Some(check(&Evidence { before, totals, after, rows_counted: count_rows, month }))
    });
    Ok(balances.collect())
}

async fn projects(store: &dyn Store) -> Result<Vec<ProjectId>, StoreError> {
    let totals = store.totals(false).await?;
    Ok(totals.iter().map(|totals| totals.project).collect())
}

/// The stream's counters of each project; zeros for a project without counters in the stream.
async fn counters(
    stream: &dyn Stream,
    projects: &[ProjectId],
) -> Result<HashMap<ProjectId, ProjectCounters>, StreamError> {
    let zeros = |project| ProjectCounters { project, accepted: 0, pending: 0, month: 0, used: 0 };
    let mut counters: HashMap<_, _> = projects.iter().map(|project| (*project, zeros(*project))).collect();
    for counted in stream.counters(projects).await? {
        counters.insert(counted.project, counted);
    }
    Ok(counters)
}

/// The current month, as [`month_of`] writes it.
pub(crate) fn current_month() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    month_of(u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use millrace_store::LedgerSums;

    use super::*;

    const MONTH: u32 = 202_611;

    fn counters(accepted: u64, pending: i64, used: u64) -> ProjectCounters {
        ProjectCounters { project: ProjectId(7), accepted, pending, month: MONTH, used }
    }

    fn totals(stored: u64, duplicate: u64, dead: u64) -> ProjectTotals {
        ProjectTotals {
            project: ProjectId(7),
            stored,
            cancelled: 0,
            duplicate,
            dead,
            stored_this_month: stored,
            event_rows: stored,
            cancelled_rows: 0,
            dead_rows: dead,
            ledger: LedgerSums { stored, duplicate, dead },
            ledger_hours: LedgerSums { stored, duplicate, dead },
        }
    }

    /// Readings of a project whose counters do not move.
    fn still(counters: ProjectCounters, totals: ProjectTotals) -> Evidence {
        Evidence { before: counters, totals, after: counters, rows_counted: true, month: Some(MONTH) }
    }

    /// The broken rules, with the difference of each.
    fn broken(evidence: &Evidence) -> Vec<(Rule, i128)> {
        let difference = |violation: &Violation| (violation.rule, violation.difference());
        check(evidence).violations.iter().map(difference).collect()
    }

    #[test]
    fn the_balance_of_a_still_project_with_equal_sides_is_exact() {
        let balance = check(&still(counters(10, 0, 7), totals(7, 2, 1)));
        assert!(balance.exact && balance.holds(), "{balance:?}");
    }

    #[test]
    fn one_event_missing_or_too_many_breaks_conservation_when_no_counter_moves() {
        assert_eq!(broken(&still(counters(11, 0, 7), totals(7, 2, 1))), [(Rule::Conservation, -1)]);
        assert_eq!(broken(&still(counters(9, 0, 7), totals(7, 2, 1))), [(Rule::Conservation, 1)]);
    }

    #[test]
    fn a_project_whose_counters_move_during_the_readings_must_stay_within_bounds() {
        let moving = |stored| Evidence {
            before: counters(100, 40, 100),
            totals: totals(stored, 0, 0),
            after: counters(120, 30, 120),
            rows_counted: true,
            month: Some(MONTH),
        };
        for stored in [60, 90, 120] {
            let balance = check(&moving(stored));
            assert!(balance.holds() && !balance.exact, "{balance:?}");
        }
        assert_eq!(broken(&moving(59)), [(Rule::Conservation, -1)], "59 are stored, 60 were settled before");
        assert_eq!(broken(&moving(121)), [(Rule::Conservation, 1)], "121 are stored, 120 were ever accepted");
    }

    #[test]
    fn a_still_project_with_pending_events_must_stay_within_bounds() {
        // Committed and not yet settled: the store is ahead of the stream, and nothing is wrong.
        let balance = check(&still(counters(10, 4, 10), totals(10, 0, 0)));
        assert!(balance.holds() && !balance.exact, "{balance:?}");
    }

    #[test]
    fn a_negative_pending_count_widens_the_bounds_and_is_never_exact() {
        let balance = check(&still(counters(10, -2, 10), totals(12, 0, 0)));
        assert!(balance.holds() && !balance.exact, "{balance:?}");
        assert_eq!(broken(&still(counters(10, -2, 10), totals(13, 0, 0))), [(Rule::Conservation, 1)]);
    }

    #[test]
    fn every_table_must_match_the_metered_usage() {
        let good = totals(7, 2, 1);
        let with = |change: fn(&mut ProjectTotals)| {
            let mut changed = good;
            change(&mut changed);
            broken(&still(counters(10, 0, 7), changed))
        };
        assert_eq!(with(|totals| totals.event_rows += 3), [(Rule::EventRows, 3)]);
        assert_eq!(with(|totals| totals.cancelled_rows += 1), [(Rule::CancelledRows, 1)]);
        assert_eq!(with(|totals| totals.dead_rows -= 1), [(Rule::DeadRows, -1)]);
        assert_eq!(with(|totals| totals.ledger.stored -= 1), [(Rule::LedgerStored, -1)]);
        assert_eq!(with(|totals| totals.ledger.duplicate += 1), [(Rule::LedgerDuplicate, 1)]);
        assert_eq!(with(|totals| totals.ledger.dead += 1), [(Rule::LedgerDead, 1)]);
        assert_eq!(with(|totals| totals.stored_this_month += 1), [(Rule::Quota, 1)]);
    }

    #[test]
    fn rows_that_were_not_counted_break_no_rule() {
        let mut evidence = still(counters(10, 0, 7), totals(7, 2, 1));
        evidence.totals.event_rows = 0;
        evidence.totals.cancelled = 2;
        evidence.totals.dead_rows = 0;
        evidence.rows_counted = false;
        assert_eq!(broken(&evidence), []);
    }

    #[test]
    fn the_charge_of_last_month_does_not_count_for_this_month() {
        let mut evidence = still(counters(10, 0, 7), totals(7, 2, 1));
        evidence.totals.stored_this_month = 0;
        evidence.month = Some(MONTH + 1);
        assert_eq!(broken(&evidence), []);
        evidence.month = Some(MONTH);
        assert_eq!(broken(&evidence), [(Rule::Quota, -7)]);
        evidence.month = None;
        assert_eq!(broken(&evidence), [], "the month changed during the readings");
    }

    #[test]
    fn unreadable_entries_need_not_be_accepted() {
        let unreadable = ProjectCounters { project: UNREADABLE, ..counters(0, 0, 0) };
        let mut evidence = still(unreadable, totals(0, 0, 3));
        evidence.totals.project = UNREADABLE;
        assert_eq!(broken(&evidence), []);
    }
}
