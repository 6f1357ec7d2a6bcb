//! The conservation check: the operator's audit without counting the tables, for the metrics and the log.

use millrace_reconcile::audit::{self, Balance};
use millrace_store::SharedStore;
use millrace_stream::SharedStream;

use crate::metrics::{self, Conservation};

/// Compares the accepted and the stored events of every project. A violation is recorded and logged, never
/// repaired. Returns whether the comparison could be made.
pub(super) async fn check(stream: &SharedStream, store: &SharedStore) -> bool {
    let balances = match audit::audit(stream.as_ref(), store.as_ref(), false).await {
        Ok(balances) => balances,
        Err(error) => {
            metrics::conservation_failed();
            tracing::debug!(%error, "the conservation check failed");
            return false;
        }
    };
    metrics::conservation_checked(&sum_of(&balances));
    for Balance { project, violations, .. } in &balances {
        for violation in violations {
            let (rule, difference) = (violation.rule.sentence(), violation.difference());
            tracing::error!(%project, rule, %difference, "the counts of a project do not add up");
        }
    }
    true
}

fn sum_of(balances: &[Balance]) -> Conservation {
    let mut sum = Conservation { projects: balances.len() as u64, ..Conservation::default() };
    for balance in balances {
        sum.broken += u64::from(!balance.holds());
        sum.accepted += balance.accepted;
        sum.stored += balance.stored;
        sum.duplicate += balance.duplicate;
        sum.dead += balance.dead;
        sum.pending += balance.pending;
    }
    sum
}
