//! `millrace` alone, on two files in a folder, to be broken: one process, one disk, and the end of a drill.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use testkit::eventually;
use testkit::oracle::{
    Clients, Evidence, Files, Findings, Invariant, JudgeInput, Load, Meters, PlanLimits, Project,
    QUIET_DEADLINE, Targets, Watch,
};

use crate::ending::{CLIENTS_DEADLINE, Ending, conclude};
use crate::metric;
use crate::node::{Node, SOON};
use crate::operator::Operator;
use crate::system::{Drill, LIMITED};
use crate::verdict::{Need, Sight, Verdict};

/// What the process counts that tells what happened.
const SIGHTS: &[(Sight, &str)] = &[
    (Sight::Redelivered, metric::REDELIVERED),
    (Sight::TakenOver, metric::TAKEN_OVER),
    (Sight::WriteFailed, metric::WRITE_FAILURES),
    (Sight::Rebuilt, metric::REBUILDS),
];

/// A running `millrace`.
pub struct Standalone {
    /// The drill it is made for.
    pub drill: Drill,
    /// The process.
    pub node: Node,
    /// The projects posted for, with their limits.
    pub projects: Vec<(Arc<Project>, PlanLimits)>,
    targets: Targets,
    probes: Vec<Project>,
    epochs: Vec<String>,
    files: Files,
    folder: PathBuf,
    sights: BTreeMap<Sight, u64>,
    findings: Findings,
    watch: Watch,
}

impl Standalone {
    /// Starts it on a folder, with these settings besides the usual ones, and waits until it serves.
    pub async fn start(drill: Drill, folder: &Path, more: &[(&str, &str)]) -> Self {
        let folder = folder.join("data");
        let data = folder.display().to_string();
        let mut variables = vec![
            ("DATA_DIR", data.as_str()),
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("METRICS_ADDR", "127.0.0.1:0"),
            ("RUST_LOG", "info"),
            ("UPKEEP_INTERVAL_MS", "500"),
        ];
        variables.extend(drill.mutant.as_deref().map(|mutant| ("MILLRACE_MUTANT", mutant)));
        variables.extend(more);
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut node = Node::new("millrace", &drill.profile, owned.collect());
        node.start().await;
        let operator = Operator::new(&drill, &[("DATA_DIR", &data)]);
        let (projects, probes) = operator.projects(LIMITED, 1).await;
        let files = Files::new(&folder);
        let epochs = files.epochs().await.into_iter().filter_map(|(borne, _)| borne).collect();
        let targets = Targets::default();
        targets.set(vec![node.address().await]);
        Self {
            watch: Watch::start(Meters::Files(files.clone())),
            sights: BTreeMap::new(),
            findings: Findings::default(),
            drill,
            node,
            projects,
            targets,
            probes,
            epochs,
            files,
            folder,
        }
    }

    /// Clients that post for every project until they are handed to [`Standalone::finish`].
    pub fn load(&self, load: Load) -> Clients {
        let projects: Vec<_> = self.projects.iter().map(|(project, _)| Arc::clone(project)).collect();
        Clients::start(&projects, &self.targets, load, self.drill.seed)
    }

    /// Starts it again, with these variables for this life only.
    pub async fn start_again(&mut self, more: &[(&str, &str)]) {
        self.node.start_with(more).await;
        self.targets.set(vec![self.node.address().await]);
    }

    /// Waits until so many more requests were answered 5xx or not at all.
    pub async fn more_unanswered(&self, more: u64) {
        let unanswered =
            || self.projects.iter().map(|(project, _)| project.history.tally().unknown).sum::<u64>();
        let goal = unanswered() + more;
        let what = format!("{more} more requests to be left without an answer");
        eventually(SOON, &what, async || match goal.saturating_sub(unanswered()) {
            0 => Ok(()),
            left => Err(format!("{left} to come")),
        })
        .await;
    }

    /// Notes that something happened which no counter tells.
    pub fn saw(&mut self, sight: Sight, count: u64) {
        *self.sights.entry(sight).or_default() += count;
    }

    /// Ends the drill and tells what it has shown. `needs` is what must have happened for it to have shown anything.
    pub async fn finish(mut self, clients: Clients, needs: &[Need]) -> Verdict {
        if self.node.is_running() {
            self.node.program().resume();
        } else {
            self.start_again(&[]).await;
        }
        clients.stop(CLIENTS_DEADLINE).await;
        let api = self.node.address().await;
        let subject = JudgeInput {
            evidence: &self.files,
            projects: &self.projects,
            epochs: self.epochs.clone(),
            quiet_within: QUIET_DEADLINE,
        };
        for said in self.node.bounds() {
            self.findings.add(Invariant::Bounded, format!("the program {said}"));
        }
        let (findings, watch) = (std::mem::take(&mut self.findings), self.watch);
        let mut verdict = conclude(Ending { api, subject, probes: &self.probes, watch }, findings).await;
        verdict.count_metrics(&mut self.node, SIGHTS).await;
        for project in &self.projects {
            let sums = self.files.sums(project.0.id).await;
            *verdict.sights.entry(Sight::Duplicate).or_default() += sums.ledger[2];
            *verdict.sights.entry(Sight::DeadLettered).or_default() += sums.ledger[3];
        }
        for (sight, count) in &self.sights {
            *verdict.sights.entry(*sight).or_default() += count;
        }
        verdict.demand(needs);
        if !verdict.holds() {
            verdict.keep_evidence(
                &self.drill,
                [("millrace.log".to_owned(), self.node.log())],
                &[self.folder],
            );
        }
        verdict
    }
}
