//! The end of every drill: probes use the repaired system, and the oracle compares everything.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::oracle::{Findings, JudgeInput, Project, Watch, fill, judge, probe};

use crate::verdict::{Effect, Verdict};

/// How long stopping clients may repeat requests with an unknown outcome.
pub(crate) const CLIENTS_DEADLINE: Duration = Duration::from_secs(30);
/// How long the stream may take to become empty before the rest of a quota is used up.
const DRAINED_DEADLINE: Duration = Duration::from_secs(60);
/// The state at the end of a drill: everything runs again, and no client posts.
pub(crate) struct Ending<'a> {
    /// An API that is ready.
    pub(crate) api: SocketAddr,
    pub(crate) subject: JudgeInput<'a>,
    /// One project for each shard, without events so far.
    pub(crate) probes: &'a [Project],
    /// Started at the beginning of the drill.
    pub(crate) watch: Watch,
}

/// Posts probes on every shard and uses up the quotas, then asks the oracle.
pub(crate) async fn conclude(ending: Ending<'_>, mut findings: Findings) -> Verdict {
    let Ending { api, subject, probes, watch } = ending;
    let (evidence, projects) = (subject.evidence, subject.projects);
    for project in probes {
        probe(api, project, evidence, &mut findings).await;
    }
    // Refunds for duplicates are known when the stream is empty.
    if becomes_empty(&subject).await {
        for (project, limits) in projects {
            fill(api, project, *limits, evidence, &mut findings).await;
        }
    }
    let (quiet_after, violations) = judge(subject).await;
    let mut verdict = Verdict { quiet_after, violations, ..Verdict::default() };
    verdict.violations.extend(findings.into_violations());
    verdict.effects.insert(Effect::UsageRead, watch.looks());
    verdict.violations.extend(watch.finish(evidence).await);
    for (project, _) in projects {
        verdict.count(&project.history.tally());
    }
    verdict
}

/// Waits for an empty stream. False after a minute; the oracle reports it.
async fn becomes_empty(subject: &JudgeInput<'_>) -> bool {
    let deadline = tokio::time::Instant::now() + DRAINED_DEADLINE;
    while tokio::time::Instant::now() < deadline {
        if subject.evidence.left().await.is_empty() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}
