//! The sums: ledger, usage, rows and the stream's own counters must tell the same story. I5, I6, I8.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::client::Project;
use super::evidence::{Evidence, Sums};
use super::judge::{Findings, Invariant};
use super::rates;

/// What a project's plan promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlanLimits {
    /// Requests a minute.
    pub requests_per_minute: u64,
    /// Requests at once.
    pub burst: u64,
    /// Events a month; `None` is unlimited.
    pub events_per_month: Option<u64>,
}

/// Compares the sums of one project, which has `rows` rows in `events`.
pub(super) async fn compare(
    evidence: &dyn Evidence,
    project: &Project,
    rows: u64,
    findings: &mut Findings,
) -> Ledger {
    let Sums { ledger: [accepted, stored, duplicate, dead], usage, letters } =
        evidence.sums(project.id).await;
    let claims = [
        ("ledger: accepted = stored + duplicate + dead", accepted, stored + duplicate + dead),
        ("ledger stored = rows", stored, rows),
        ("ledger stored = usage", stored, usage[0]),
        ("ledger duplicate = usage", duplicate, usage[1]),
        ("ledger dead = usage", dead, usage[2]),
        ("ledger dead = dead letters", dead, letters),
    ];
    for (claim, left, right) in claims {
        if left != right {
            findings.add(Invariant::TotalsAgree, format!("{}: {claim}: {left} and {right}", project.name));
        }
    }
    let mut ledger = Ledger { accepted, stored, received_ms: Vec::new() };
    let mut entries: BTreeMap<Uuid, Vec<u64>> = BTreeMap::new();
    for entry in evidence.ledger(project.id).await {
        entries.entry(entry.batch).or_default().push(entry.accepted);
        ledger.received_ms.push(entry.received_ms);
    }
    compare_batches(project, &entries, findings);
    ledger
}

/// What the ledger says of one project.
pub(super) struct Ledger {
    accepted: u64,
    stored: u64,
    /// Of every entry, in order.
    received_ms: Vec<u64>,
}

/// Every batch that was acknowledged is in the ledger once, with the count that was answered.
fn compare_batches(project: &Project, entries: &BTreeMap<Uuid, Vec<u64>>, findings: &mut Findings) {
    for (batch, accepted) in project.history.batches() {
        let written = entries.get(&batch).map_or(&[][..], Vec::as_slice);
        if written != [accepted] {
            let said = format!(
                "{}: batch {batch} of {accepted} events is in the ledger as {written:?}",
                project.name
            );
            findings.add(Invariant::TotalsAgree, said);
        }
    }
}

/// What the stream knows of a project, when nothing is pending.
pub(super) async fn compare_stream(
    evidence: &dyn Evidence,
    project: &Project,
    limits: PlanLimits,
    rebuilt: bool,
    ledger: &Ledger,
    findings: &mut Findings,
) {
    let counters = evidence.counters(project.id).await;
    let in_month = evidence.stored_in_month(project.id, Some(counters.month)).await;
    let claims = [
        (Invariant::TotalsAgree, "the stream's accepted = the ledger's", counters.accepted, ledger.accepted),
        (Invariant::Quiet, "pending = 0", counters.pending.unsigned_abs(), 0),
        (Invariant::PlansExact, "events charged = events stored", counters.used, in_month),
    ];
    for (invariant, claim, left, right) in claims {
        if left != right {
            findings.add(invariant, format!("{}: {claim}: {left} and {right}", project.name));
        }
    }
    if let Some(quota) = limits.events_per_month.filter(|quota| ledger.stored > *quota) {
        let said = format!("{}: {} events stored, {quota} allowed", project.name, ledger.stored);
        findings.add(Invariant::PlansExact, said);
    }
    let (excess, tat_max) = rates::replay(&ledger.received_ms, limits.requests_per_minute, limits.burst);
    if excess > 0 && !rebuilt {
        let said = format!("{}: {excess} requests over the rate were admitted", project.name);
        findings.add(Invariant::PlansExact, said);
    }
    // A rebuild of the counters sets the time to now, the first one, of an empty stream, too.
    if counters.tat > tat_max && !rebuilt && !ledger.received_ms.is_empty() {
        let said = format!("{}: the rate was charged for requests that were not admitted", project.name);
        findings.add(Invariant::PlansExact, said);
    }
}
