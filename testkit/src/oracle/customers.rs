//! Compares what is kept for the bills of a project with its stored events: limits of customers, and
//! cancellations. I14, I15.

use super::evidence::{CancelledEvents, Evidence, LimitCounter, LimitUse};
use super::findings::{Findings, Invariant};
use super::project::Project;

/// Compares the limits of a project's customers, when nothing is pending. What the store has recorded must
/// equal the stored events, stay within the limit, and be the counter of the stream. A counter of which the
/// store knows nothing must be 0.
pub(super) async fn compare_limits(evidence: &dyn Evidence, project: &Project, findings: &mut Findings) {
    let uses = evidence.limit_uses(project.id).await;
    let counters = evidence.limit_counters(project.id).await;
    let mut broken = |said: String| {
        findings.add(Invariant::LimitsExact, format!("{}: {said}", project.name));
    };
    for LimitUse { name, window, recorded, events, limit } in &uses {
        if recorded != events {
            broken(format!(
                "{name:?} in {window}: {recorded} quarters are recorded, and events took {events}"
            ));
        }
        if events > limit {
            broken(format!(
                "{name:?} in {window}: stored events took {events} quarters, {limit} are allowed"
            ));
        }
        match counters.iter().find(|counter| counter.name == *name) {
            Some(counter) if counter.window > *window => {}
            Some(counter) if counter.window == *window && counter.used == *recorded => {}
            counter => broken(format!(
                "{name:?} in {window}: {recorded} quarters are recorded, and the stream has {counter:?}"
            )),
        }
    }
    for LimitCounter { name, window, used } in &counters {
        let is_recorded = uses.iter().any(|recorded| recorded.name == *name && recorded.window == *window);
        if *used != 0 && !is_recorded {
            broken(format!("{name:?} in {window}: {used} quarters are charged, and none is recorded"));
        }
    }
}

/// Compares the cancelled events of a project with the answers to those who cancelled.
pub(super) async fn compare_cancellations(
    evidence: &dyn Evidence,
    project: &Project,
    findings: &mut Findings,
) {
    let CancelledEvents { numbers, records, metered } = evidence.cancelled_events(project.id).await;
    let mut broken = |said: String| {
        findings.add(Invariant::CancelledOnce, format!("{}: {said}", project.name));
    };
    let count = numbers.len() as i64;
    if records != count || metered != count {
        broken(format!("{count} events are cancelled, {records} are on record, usage counts {metered}"));
    }
    let is_cancelled = |number: &u64| i64::try_from(*number).is_ok_and(|number| numbers.contains(&number));
    for number in project.history.cancelled.certain().iter().filter(|number| !is_cancelled(number)) {
        broken(format!("event {number} was answered as cancelled, and is not"));
    }
    let asked = project.history.cancelled.asked();
    for number in numbers.iter().filter(|number| !u64::try_from(**number).is_ok_and(|n| asked.contains(&n))) {
        broken(format!("event {number} is cancelled, and nothing has asked for it"));
    }
    for (number, times) in project.history.cancelled.repeated() {
        broken(format!("event {number} was cancelled {times} times, by the answers"));
    }
}
