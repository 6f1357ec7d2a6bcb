//! How many projects have nearly used up their month's quota, as numbers for the metrics. It must never name
//! a project; `millrace usage` does.

use std::collections::HashMap;

use millrace_store::Store;
use millrace_stream::Stream;

use crate::audit::{AuditError, current_month};

/// Shares of a month's quota, in percent, at which a project is counted. A project counts for every step it
/// has reached.
pub const STEPS_PERCENT: [u64; 3] = [80, 90, 100];

/// For each of [`STEPS_PERCENT`], how many of the projects with a quota have used at least that share of it.
///
/// # Errors
/// [`AuditError`] when the stream or the store cannot be read.
pub async fn near_end(stream: &dyn Stream, store: &dyn Store) -> Result<[u64; 3], AuditError> {
    let plans: HashMap<_, _> =
        store.plans().await?.into_iter().map(|plan| (plan.name.clone(), plan)).collect();
    let mut quotas = HashMap::new();
    for project in store.projects().await? {
        if let Some(quota) = plans.get(&project.plan).and_then(|plan| plan.events_per_month) {
            quotas.insert(project.project, quota);
        }
    }
    let projects: Vec<_> = quotas.keys().copied().collect();
    let month = current_month();
    let used = stream.counters(&projects).await?.into_iter().map(|counters| {
        let used = if counters.month == month { counters.used } else { 0 };
        (used, quotas[&counters.project])
    });
    Ok(count(used))
}

/// Counts the pairs of used events and quota that have reached each step.
fn count(used: impl Iterator<Item = (u64, u64)>) -> [u64; 3] {
    let mut projects = [0; 3];
    for (used, quota) in used {
        for (projects, percent) in projects.iter_mut().zip(STEPS_PERCENT) {
            *projects += u64::from(u128::from(used) * 100 >= u128::from(quota) * u128::from(percent));
        }
    }
    projects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_counts_from_the_event_that_reaches_a_step() {
        let of_1000 = |used| count([(used, 1_000)].into_iter());
        assert_eq!(of_1000(799), [0, 0, 0]);
        assert_eq!(of_1000(800), [1, 0, 0]);
        assert_eq!(of_1000(899), [1, 0, 0]);
        assert_eq!(of_1000(900), [1, 1, 0]);
        assert_eq!(of_1000(999), [1, 1, 0]);
        assert_eq!(of_1000(1_000), [1, 1, 1]);
        assert_eq!(count([(u64::MAX, u64::MAX), (0, 1), (9, 10)].into_iter()), [2, 2, 1]);
    }
}
