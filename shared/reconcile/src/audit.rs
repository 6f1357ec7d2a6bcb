//! The audit: whether every event that was accepted is accounted for.
//!
//! accepted = stored + duplicate + dead-lettered + pending, for each project, at every moment. The left side is
//! counted by the stream, the right side by the store, and no clock stops both at once: so the stream is read before
//! and after the store. If nothing moved between its two readings and nothing is pending, the two sides must be equal;
//! otherwise the store's sum must lie between what was settled before and what was accepted after.

use std::collections::HashMap;

use millrace_event::plan::{ProjectId, month_of};
use millrace_store::{ProjectTotals, Store, StoreError};
use millrace_stream::{ProjectCounters, Stream, StreamError};

/// Entries too damaged to tell whose they were are kept under this number. Nobody accepted anything as it.
const UNREADABLE: ProjectId = ProjectId(0);

/// A rule that an installation must obey at all times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// accepted = stored + duplicate + dead + pending.
    Conservation,
    /// The month's charge in the stream is what was stored in that month.
    Quota,
    /// Over the hours the ledger still covers, it says what the usage counters say: stored events.
    LedgerStored,
    /// The same of duplicates.
    LedgerDuplicate,
    /// The same of dead letters.
    LedgerDead,
    /// As many rows in `events` as were metered as stored.
    EventRows,
    /// As many events in `dead_letters` as were metered as dead.
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
            Self::DeadRows => "events metered as dead = events in dead_letters",
        }
    }
}

/// A rule that is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// The least that `found` may be.
    pub at_least: u64,
    /// The most that `found` may be; equal to `at_least` when nothing moved.
    pub at_most: u64,
    /// What was counted on the right side of the rule.
    pub found: u64,
}

impl Violation {
    /// How far off: negative when events are missing, positive when there are too many.
    pub fn difference(&self) -> i128 {
        let found = i128::from(self.found);
        if self.found < self.at_least {
            found - i128::from(self.at_least)
        } else {
            found - i128::from(self.at_most)
        }
    }
}

/// What was read of one project, in this order.
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
    /// The calendar month during all three readings; `None` when it changed, and the quota is not judged.
    pub month: Option<u32>,
}

/// The balance of one project.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Balance {
    /// The project.
    pub project: ProjectId,
    /// Events ever admitted.
    pub accepted: u64,
    /// Of these, not settled yet.
    pub pending: i64,
    /// Events stored, ever.
    pub stored: u64,
    /// Events that were stored before.
    pub duplicate: u64,
    /// Events dead-lettered.
    pub dead: u64,
    /// Nothing moved while it was read and nothing is pending: equality was demanded, not only bounds.
    pub exact: bool,
    /// What is wrong. Empty when the balance holds.
    pub violations: Vec<Violation>,
}

impl Balance {
    /// Whether every rule is obeyed.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Judges one project. A violation found here is one, however much moved while the evidence was read.
pub fn judge(evidence: &Evidence) -> Balance {
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
        demand(Rule::DeadRows, totals.dead, totals.dead, totals.dead_rows);
    }
    Balance {
        project: after.project,
        accepted: after.accepted,
        pending: after.pending,
        stored: totals.stored,
        duplicate: totals.duplicate,
        dead: totals.dead,
        exact,
        violations,
    }
}

/// What the store may have accounted for: at least what was settled before it was read, because settling follows the
/// commit, and at most what was accepted after, because the commit follows the admission. A negative pending count
/// means that as many more were settled than the stream knew to be admitted.
fn accounted_bounds(before: &ProjectCounters, after: &ProjectCounters) -> (u64, u64) {
    let pending_before = before.pending.max(0).unsigned_abs();
    let unknown_after = after.pending.min(0).unsigned_abs();
    (before.accepted.saturating_sub(pending_before), after.accepted + unknown_after)
}

/// Why no audit could be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// See [`StreamError`].
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads stream, store and stream again, and judges every project that was there all the time. `count_rows` also
/// counts the tables, which takes long when they are large.
///
/// # Errors
/// [`AuditError`] when one of them cannot be read.
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
    let judged = totals.into_iter().filter_map(|totals| {
        let project = totals.project;
        let (before, after) = (*before.get(&project)?, *after.get(&project)?);
        Some(judge(&Evidence { before, totals, after, rows_counted: count_rows, month }))
    });
    Ok(judged.collect())
}

async fn projects(store: &dyn Store) -> Result<Vec<ProjectId>, StoreError> {
    let totals = store.totals(false).await?;
    Ok(totals.iter().map(|totals| totals.project).collect())
}

/// The stream's counters of each project; zero of one it has never heard of.
async fn counters(
    stream: &dyn Stream,
    projects: &[ProjectId],
) -> Result<HashMap<ProjectId, ProjectCounters>, StreamError> {
    let unheard_of = |project| ProjectCounters { project, accepted: 0, pending: 0, month: 0, used: 0 };
    let mut counters: HashMap<_, _> =
        projects.iter().map(|project| (*project, unheard_of(*project))).collect();
    for known in stream.counters(projects).await? {
        counters.insert(known.project, known);
    }
    Ok(counters)
}

/// The month it is, as [`month_of`] writes it.
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
            duplicate,
            dead,
            stored_this_month: stored,
            event_rows: stored,
            dead_rows: dead,
            ledger: LedgerSums { stored, duplicate, dead },
            ledger_hours: LedgerSums { stored, duplicate, dead },
        }
    }

    fn quiet(counters: ProjectCounters, totals: ProjectTotals) -> Evidence {
        Evidence { before: counters, totals, after: counters, rows_counted: true, month: Some(MONTH) }
    }

    /// The rules broken, with how far off each is.
    fn broken(evidence: &Evidence) -> Vec<(Rule, i128)> {
        judge(evidence).violations.iter().map(|found| (found.rule, found.difference())).collect()
    }

    #[test]
    fn a_quiet_project_whose_sides_are_equal_holds_exactly() {
        let balance = judge(&quiet(counters(10, 0, 7), totals(7, 2, 1)));
        assert!(balance.exact && balance.holds(), "{balance:?}");
    }

    #[test]
    fn one_event_missing_or_too_many_is_found_when_nothing_moves() {
        assert_eq!(broken(&quiet(counters(11, 0, 7), totals(7, 2, 1))), [(Rule::Conservation, -1)]);
        assert_eq!(broken(&quiet(counters(9, 0, 7), totals(7, 2, 1))), [(Rule::Conservation, 1)]);
    }

    #[test]
    fn what_moves_while_it_is_read_is_held_to_bounds() {
        let moving = |stored| Evidence {
            before: counters(100, 40, 100),
            totals: totals(stored, 0, 0),
            after: counters(120, 30, 120),
            rows_counted: true,
            month: Some(MONTH),
        };
        for stored in [60, 90, 120] {
            let balance = judge(&moving(stored));
            assert!(balance.holds() && !balance.exact, "{balance:?}");
        }
        assert_eq!(broken(&moving(59)), [(Rule::Conservation, -1)], "59 were stored, 60 were settled before");
        assert_eq!(
            broken(&moving(121)),
            [(Rule::Conservation, 1)],
            "121 were stored, 120 were ever accepted"
        );
    }

    #[test]
    fn what_is_pending_but_still_is_held_to_bounds_too() {
        // Committed and not yet settled: the store is ahead of the stream, and nothing is wrong.
        let balance = judge(&quiet(counters(10, 4, 10), totals(10, 0, 0)));
        assert!(balance.holds() && !balance.exact, "{balance:?}");
    }

    #[test]
    fn a_negative_pending_count_is_allowed_for_and_never_exact() {
        let balance = judge(&quiet(counters(10, -2, 10), totals(12, 0, 0)));
        assert!(balance.holds() && !balance.exact, "{balance:?}");
        assert_eq!(broken(&quiet(counters(10, -2, 10), totals(13, 0, 0))), [(Rule::Conservation, 1)]);
    }

    #[test]
    fn every_table_is_held_against_what_was_metered() {
        let good = totals(7, 2, 1);
        let with = |change: fn(&mut ProjectTotals)| {
            let mut changed = good;
            change(&mut changed);
            broken(&quiet(counters(10, 0, 7), changed))
        };
        assert_eq!(with(|totals| totals.event_rows += 3), [(Rule::EventRows, 3)]);
        assert_eq!(with(|totals| totals.dead_rows -= 1), [(Rule::DeadRows, -1)]);
        assert_eq!(with(|totals| totals.ledger.stored -= 1), [(Rule::LedgerStored, -1)]);
        assert_eq!(with(|totals| totals.ledger.duplicate += 1), [(Rule::LedgerDuplicate, 1)]);
        assert_eq!(with(|totals| totals.ledger.dead += 1), [(Rule::LedgerDead, 1)]);
        assert_eq!(with(|totals| totals.stored_this_month += 1), [(Rule::Quota, 1)]);
    }

    #[test]
    fn rows_that_were_not_counted_are_not_judged() {
        let mut evidence = quiet(counters(10, 0, 7), totals(7, 2, 1));
        evidence.totals.event_rows = 0;
        evidence.totals.dead_rows = 0;
        evidence.rows_counted = false;
        assert_eq!(broken(&evidence), []);
    }

    #[test]
    fn last_months_charge_is_not_this_months() {
        let mut evidence = quiet(counters(10, 0, 7), totals(7, 2, 1));
        evidence.totals.stored_this_month = 0;
        evidence.month = Some(MONTH + 1);
        assert_eq!(broken(&evidence), []);
        evidence.month = Some(MONTH);
        assert_eq!(broken(&evidence), [(Rule::Quota, -7)]);
        evidence.month = None;
        assert_eq!(broken(&evidence), [], "the month turned while it was read");
    }

    #[test]
    fn unreadable_entries_were_accepted_by_nobody() {
        let nobody = ProjectCounters { project: UNREADABLE, ..counters(0, 0, 0) };
        let mut evidence = quiet(nobody, totals(0, 0, 3));
        evidence.totals.project = UNREADABLE;
        assert_eq!(broken(&evidence), []);
    }
}
