//! The end of every drill, whatever it was held on: what was healed is used, and everything is compared.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::oracle::{Findings, JudgeInput, Project, Watch, fill, judge, probe};

use crate::verdict::{Sight, Verdict};

/// How long clients that are told to stop may go on asking for batches whose fate they do not know.
pub(crate) const CLIENTS_DEADLINE: Duration = Duration::from_secs(30);
/// How long the stream may take to be empty before the rest of a quota is used up.
const DRAINED_DEADLINE: Duration = Duration::from_secs(60);
/// What a drill ends with: everything runs again, and no client posts any more.
pub(crate) struct Ending<'a> {
    /// An API that is ready.
    pub(crate) api: SocketAddr,
    /// What is judged.
    pub(crate) subject: JudgeInput<'a>,
    /// One for each shard, posted for now and never before.
    pub(crate) probes: &'a [Project],
    /// Since the beginning.
    pub(crate) watch: Watch,
}

/// Probes on every shard, the last events of the quota, then the judgement.
pub(crate) async fn conclude(ending: Ending<'_>, mut findings: Findings) -> Verdict {
    let Ending { api, subject, probes, watch } = ending;
    let (evidence, projects) = (subject.evidence, subject.projects);
    for project in probes {
        probe(api, project, evidence, &mut findings).await;
    }
    // What is given back for duplicates is known when they are stored.
    if is_drained_soon(&subject).await {
        for (project, limits) in projects {
            fill(api, project, *limits, evidence, &mut findings).await;
        }
    }
    let (quiet_after, violations) = judge(subject).await;
    let mut verdict = Verdict { quiet_after, violations, ..Verdict::default() };
    verdict.violations.extend(findings.into_violations());
    verdict.sights.insert(Sight::Looked, watch.looks());
    verdict.violations.extend(watch.finish(evidence).await);
    for (project, _) in projects {
        verdict.count(&project.history.tally());
    }
    verdict
}

/// False when the stream is not empty for a minute: that is found by the judgement.
async fn is_drained_soon(subject: &JudgeInput<'_>) -> bool {
    let deadline = tokio::time::Instant::now() + DRAINED_DEADLINE;
    while tokio::time::Instant::now() < deadline {
        if subject.evidence.left().await.is_empty() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}
