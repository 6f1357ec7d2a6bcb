//! Compares what is kept for customers of a project with its stored events: limits. I14.

use super::evidence::{Evidence, LimitCounter, LimitUse};
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
            broken(format!("{name:?} in {window}: {recorded} quarters are recorded, and events took {events}"));
        }
        if events > limit {
            broken(format!("{name:?} in {window}: stored events took {events} quarters, {limit} are allowed"));
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
