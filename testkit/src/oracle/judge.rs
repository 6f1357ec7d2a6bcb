//! Checks the invariants when the faults are over and the pipeline is idle again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::evidence::Evidence;
use super::findings::{Findings, Invariant, Violation};
use super::limits::PlanLimits;
use super::project::Project;
use super::{customers, rows, totals};

/// How long it may take after the last fault until no work is left.
pub const QUIET_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// What [`judge`] compares.
pub struct JudgeInput<'a> {
    /// Store and stream.
    pub evidence: &'a dyn Evidence,
    /// The projects for which events were posted, with the limits of their plans.
    pub projects: &'a [(Arc<Project>, PlanLimits)],
    /// The epochs of the stream before the faults, by shard. Empty when the drill wiped the stream, after
    /// which the rate limits start from zero.
    pub epochs: Vec<String>,
    /// How long it may take until no work is left. Usually [`QUIET_DEADLINE`].
    pub quiet_within: Duration,
    /// How many events of each project the product has named as acknowledged and lost. Then exactly so many
    /// must be missing, none of a project that is not named. The clients must not have posted any event
    /// in two batches. `None` when nothing may be lost.
    pub named_losses: Option<BTreeMap<i64, u64>>,
}

impl JudgeInput<'_> {
    fn named_loss(&self, project: &Project) -> Option<u64> {
        self.named_losses.as_ref().map(|named| named.get(&project.id).copied().unwrap_or(0))
    }
}

/// Waits until no work is left and checks all invariants. Returns how long it waited, and the violations.
///
/// # Panics
/// When the store or the stream does not answer: they must run again.
pub async fn judge(input: JudgeInput<'_>) -> (Duration, Vec<Violation>) {
    let mut findings = Findings::default();
    let quiet_after = wait_until_quiet(&input, &mut findings).await;
    let evidence = input.evidence;
    for (project, limits) in input.projects {
        for said in project.history.contradictions() {
            findings.add(Invariant::TotalsAgree, format!("{}: {said}", project.name));
        }
        let named_loss = input.named_loss(project);
        let rows = rows::compare(evidence, project, named_loss, &mut findings).await;
        let ledger = totals::compare(evidence, project, rows, named_loss, &mut findings).await;
        totals::compare_meters(evidence, project, &mut findings).await;
        customers::compare_limits(evidence, project, &mut findings).await;
        customers::compare_cancellations(evidence, project, &mut findings).await;
        let was_wiped = input.epochs.is_empty();
        totals::compare_stream(evidence, project, *limits, was_wiped, &ledger, &mut findings).await;
    }
    compare_epochs(&input, &mut findings).await;
    (quiet_after, findings.into_violations())
}

async fn wait_until_quiet(input: &JudgeInput<'_>, findings: &mut Findings) -> Duration {
    let started = Instant::now();
    loop {
        let left = input.evidence.left().await;
        if left.is_empty() || started.elapsed() > input.quiet_within {
            for said in left {
                let after_s = input.quiet_within.as_secs();
                findings.add(Invariant::Quiet, format!("{said}, {after_s} s after the last fault"));
            }
            return started.elapsed();
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn compare_epochs(input: &JudgeInput<'_>, findings: &mut Findings) {
    for (shard, (in_stream, recorded)) in input.evidence.epochs().await.into_iter().enumerate() {
        if in_stream != recorded {
            let said =
                format!("shard {shard}: the stream's epoch is {in_stream:?}, the store has {recorded:?}");
            findings.add(Invariant::Quiet, said);
        }
        let before = input.epochs.get(shard);
        if before.is_some() && before != in_stream.as_ref() {
            let said = format!("shard {shard}: the epoch changed from {before:?} to {in_stream:?}");
            findings.add(Invariant::Quiet, said);
        }
    }
}
