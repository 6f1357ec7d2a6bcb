//! The part of `millrace audit` about limits of customers: their counters in the stream.

use std::collections::HashMap;
use std::time::Duration;

use millrace_event::meter::MeterId;
use millrace_event::printable::printable;
use millrace_reconcile::limit_audit::{LimitAudit, LimitViolation, audit_limits};
use millrace_store::Store;
use millrace_stream::Stream;
use serde_json::{Value, json};

use crate::failure::Failure;

/// Rounds in which a counter may move before it is left out.
const ROUNDS: usize = 5;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(300);

pub(crate) struct LimitReport {
    audit: LimitAudit,
    /// The names of meters whose limits are wrong.
    slugs: HashMap<MeterId, String>,
}

impl LimitReport {
    /// Repeats the audit until every counter was compared, one is wrong, or the rounds are used up.
    pub(crate) async fn read(stream: &dyn Stream, store: &dyn Store) -> Result<Self, Failure> {
        let mut audit = audit_limits(stream, store).await?;
        for _ in 1..ROUNDS {
            if audit.moving == 0 || !audit.holds() {
                break;
            }
            tokio::time::sleep(BETWEEN_ROUNDS).await;
            audit = audit_limits(stream, store).await?;
        }
        let meters = if audit.holds() { Vec::new() } else { store.meters(None).await? };
        let slug = |info: millrace_store::MeterInfo| (info.meter.id, info.meter.definition.slug);
        Ok(Self { audit, slugs: meters.into_iter().map(slug).collect() })
    }

    pub(crate) fn holds(&self) -> bool {
        self.audit.holds()
    }

    pub(crate) fn violations(&self) -> &[LimitViolation] {
        &self.audit.violations
    }

    /// One sentence without the project.
    pub(crate) fn describe(&self, violation: &LimitViolation) -> String {
        let LimitViolation { counter, expected, found, .. } = violation;
        format!(
            "customer {}: the limit of {} per {} is charged {found} in the stream, and the events that are stored or wait \
             took {expected}",
            printable(&counter.subject),
            self.slug(counter.meter),
            counter.period,
        )
    }

    pub(crate) fn json(&self) -> Value {
        let violation = |violation: &LimitViolation| {
            let LimitViolation { project, counter, expected, found } = violation;
            json!({
                "project": project,
                "meter": self.slug(counter.meter),
                "subject": counter.subject,
                "period": counter.period.as_ref(),
                "expected": expected.to_string(),
                "found": found.to_string(),
            })
        };
        json!({
            "compared": self.audit.compared,
            "moving": self.audit.moving,
            "violations": self.violations().iter().map(violation).collect::<Vec<_>>(),
        })
    }

    fn slug(&self, meter: MeterId) -> String {
        self.slugs.get(&meter).cloned().unwrap_or_else(|| format!("the deleted meter {}", meter.0))
    }
}
