//! Compares the totals: ledger, usage, rows and the stream's counters must agree, and
//! figures of meters with events. I5, I6, I8, I13.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::evidence::{Evidence, MeterSums, Sums};
use super::findings::{Findings, Invariant};
use super::limits::PlanLimits;
use super::project::Project;
use super::rates;

/// The ledger of one project, summarized.
pub(super) struct LedgerSummary {
    accepted: u64,
    stored: u64,
    /// The receive time of every entry, in order.
    received_ms: Vec<u64>,
}

/// Compares the sums of one project, which has `rows` rows in `events`. `named_loss` is how many acknowledged
/// events are missing, if any may be.
pub(super) async fn compare(
    evidence: &dyn Evidence,
    project: &Project,
    rows: u64,
    named_loss: Option<u64>,
    findings: &mut Findings,
) -> LedgerSummary {
    let Sums { ledger: [accepted, stored, duplicate, dead, conflict], usage, letters } =
        evidence.sums(project.id).await;
    compare_conflicts(project, conflict, duplicate, findings);
    let claims = [
        ("ledger: accepted = stored + duplicate + dead", accepted, stored + duplicate + dead),
        ("ledger stored = rows", stored, rows),
        ("ledger stored = usage", stored, usage[0]),
        ("ledger duplicate = usage", duplicate, usage[1]),
        ("ledger dead = usage", dead, usage[2]),
        ("ledger dead = dead letters", dead, letters),
        ("ledger conflict = usage", conflict, usage[3]),
    ];
    for (claim, left, right) in claims {
        if left != right {
            findings.add(Invariant::TotalsAgree, format!("{}: {claim}: {left} and {right}", project.name));
        }
    }
    let mut ledger = LedgerSummary { accepted, stored, received_ms: Vec::new() };
    let mut entries: BTreeMap<Uuid, Vec<u64>> = BTreeMap::new();
    for entry in evidence.ledger(project.id).await {
        entries.entry(entry.batch).or_default().push(entry.accepted);
        ledger.received_ms.push(entry.received_ms);
    }
    compare_batches(project, &entries, named_loss, findings);
    ledger
}

/// Conflicts are a part of the duplicates. Every event that was acknowledged with two payloads is one at
/// least once, and without such an event there is none.
fn compare_conflicts(project: &Project, conflict: u64, duplicate: u64, findings: &mut Findings) {
    let conflicting = project.history.conflicting();
    let is_wrong = conflict > duplicate || conflict < conflicting || conflicting == 0 && conflict > 0;
    if is_wrong {
        let said = format!(
            "{}: {conflict} conflicts among {duplicate} duplicates, but {conflicting} events got 2xx with two payloads",
            project.name
        );
        findings.add(Invariant::TotalsAgree, said);
    }
}

/// Every acknowledged batch must be in the ledger once, with the count of the response. If some may be lost,
/// they have no more events than are named.
fn compare_batches(
    project: &Project,
    entries: &BTreeMap<Uuid, Vec<u64>>,
    named_loss: Option<u64>,
    findings: &mut Findings,
) {
    let mut may_be_lost = named_loss.unwrap_or(0);
    for (batch, accepted) in project.history.batches() {
        let recorded = entries.get(&batch).map_or(&[][..], Vec::as_slice);
        if named_loss.is_some() && recorded.is_empty() && accepted <= may_be_lost {
            may_be_lost -= accepted;
        } else if recorded != [accepted] {
            let said = format!(
                "{}: batch {batch} of {accepted} events is in the ledger as {recorded:?}",
                project.name
            );
            findings.add(Invariant::TotalsAgree, said);
        }
    }
}

/// Compares the figures of a project's meters with its stored events.
pub(super) async fn compare_meters(evidence: &dyn Evidence, project: &Project, findings: &mut Findings) {
    for MeterSums { slug, figures, events } in evidence.meters(project.id).await {
        if figures != events {
            let said = format!(
                "{}: the meter {slug} has {figures:?} events and value, and the events have {events:?}",
                project.name
            );
            findings.add(Invariant::FiguresAgree, said);
        }
    }
}

/// Compares the stream's counters of a project with the ledger and the plan, when nothing is pending. After a
/// wipe of the stream, the rate limit is not checked.
pub(super) async fn compare_stream(
    evidence: &dyn Evidence,
    project: &Project,
    limits: PlanLimits,
    was_wiped: bool,
    ledger: &LedgerSummary,
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
    if excess > 0 && !was_wiped {
        let said = format!("{}: {excess} requests above the rate limit were admitted", project.name);
        findings.add(Invariant::PlansExact, said);
    }
    // A rebuild of the counters sets the arrival time to now, also the first rebuild, of an empty stream.
    if counters.tat > tat_max && !was_wiped && !ledger.received_ms.is_empty() {
        let said =
            format!("{}: the rate limit was charged for requests that were not admitted", project.name);
        findings.add(Invariant::PlansExact, said);
    }
}
