//! The judgement: what must be true when the faults are over and all is quiet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::books::{self, PlanLimits};
use super::client::Project;
use super::evidence::Evidence;
use super::rows;

/// From the moment everything runs again to the moment nothing is left to do, at most.
pub const QUIET_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// Findings of one invariant that are told one by one; the rest are counted.
const TOLD_MAX: usize = 5;

/// What must hold, whatever happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Invariant {
    /// I1: an acknowledged event is stored.
    NothingLost,
    /// I2: no event is stored twice.
    NothingTwice,
    /// I3: what is stored was posted.
    NothingInvented,
    /// I4: an event that was only ever answered 4xx is not stored.
    RefusedStaysOut,
    /// I5: ledger = usage = rows = what clients were told, by project.
    TotalsAgree,
    /// I6: rates and quotas are neither exceeded nor charged for nothing.
    PlansExact,
    /// I7: an event is stored as it was sent.
    EqualAsSent,
    /// I8: soon after the faults nothing is pending and the stream is the one it was.
    Quiet,
    /// I9: small, large and largest events pass on every shard.
    ProbesPass,
    /// I10: poison is dead-lettered once, and nothing else is.
    PoisonSetAside,
    /// I11: connections, files, memory and consumers stay bounded.
    Bounded,
    /// I12: what was metered is never taken back.
    Monotone,
}

impl Invariant {
    /// `I1` to `I12`.
    pub fn number(self) -> String {
        format!("I{}", self as u8 + 1)
    }
}

/// Something that must never be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which promise is broken.
    pub invariant: Invariant,
    /// By what.
    pub said: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.invariant.number(), self.invariant, self.said)
    }
}

/// Violations, the first few of each invariant told and the rest counted.
#[derive(Default, Debug)]
pub struct Findings {
    told: Vec<Violation>,
    counts: BTreeMap<Invariant, usize>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, invariant: Invariant, said: String) {
        let count = self.counts.entry(invariant).or_default();
        *count += 1;
        if *count <= TOLD_MAX {
            self.told.push(Violation { invariant, said });
        }
    }

    /// All of them.
    pub fn into_violations(mut self) -> Vec<Violation> {
        for (invariant, count) in self.counts {
            if count > TOLD_MAX {
                let said = format!("and {} more", count - TOLD_MAX);
                self.told.push(Violation { invariant, said });
            }
        }
        self.told
    }
}

/// What is judged.
pub struct JudgeInput<'a> {
    /// Store and stream.
    pub evidence: &'a dyn Evidence,
    /// Whose events were posted, and what their plans promise.
    pub projects: &'a [(Arc<Project>, PlanLimits)],
    /// The epochs of the stream before the faults, by shard; empty when the stream was wiped on purpose, after which
    /// rates start afresh.
    pub epochs: Vec<String>,
    /// How long it may take until nothing is left to do: [`QUIET_DEADLINE`].
    pub quiet_within: Duration,
}

/// Waits until all is quiet and compares everything. Returns how long it took to be quiet, and what is wrong.
///
/// # Panics
/// When store or stream cannot be asked: they must run again.
pub async fn judge(subject: JudgeInput<'_>) -> (Duration, Vec<Violation>) {
    let mut findings = Findings::default();
    let quiet_after = wait_until_quiet(&subject, &mut findings).await;
    let evidence = subject.evidence;
    for (project, limits) in subject.projects {
        for said in project.history.contradictions() {
            findings.add(Invariant::TotalsAgree, format!("{}: {said}", project.name));
        }
        let rows = rows::compare(evidence, project, &mut findings).await;
        let ledger = books::compare(evidence, project, rows, &mut findings).await;
        let rebuilt = subject.epochs.is_empty();
        books::compare_stream(evidence, project, *limits, rebuilt, &ledger, &mut findings).await;
    }
    compare_epochs(&subject, &mut findings).await;
    (quiet_after, findings.into_violations())
}

async fn wait_until_quiet(subject: &JudgeInput<'_>, findings: &mut Findings) -> Duration {
    let started = Instant::now();
    loop {
        let left = subject.evidence.left().await;
        if left.is_empty() || started.elapsed() > subject.quiet_within {
            for said in left {
                let after_s = subject.quiet_within.as_secs();
                findings.add(Invariant::Quiet, format!("{said}, {after_s} s after the last fault"));
            }
            return started.elapsed();
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn compare_epochs(subject: &JudgeInput<'_>, findings: &mut Findings) {
    for (shard, (in_stream, recorded)) in subject.evidence.epochs().await.into_iter().enumerate() {
        if in_stream != recorded {
            let said =
                format!("shard {shard}: the stream's epoch is {in_stream:?}, on record is {recorded:?}");
            findings.add(Invariant::Quiet, said);
        }
        let before = subject.epochs.get(shard);
        if before.is_some() && before != in_stream.as_ref() {
            let said = format!("shard {shard}: the epoch changed from {before:?} to {in_stream:?}");
            findings.add(Invariant::Quiet, said);
        }
    }
}
