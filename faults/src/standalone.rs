//! `millrace` alone, on two files in a folder: one process and one disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use testkit::eventually;
use testkit::oracle::{
    Clients, Evidence, Files, Findings, Invariant, JudgeInput, Load, Meters, PlanLimits, Project,
    QUIET_DEADLINE, Targets, Watch,
};

use crate::drill::Drill;
use crate::ending::{CLIENTS_DEADLINE, Ending, conclude};
use crate::metric;
use crate::node::{Node, SOON};
use crate::operator::Operator;
use crate::system::LIMITED;
use crate::verdict::{Effect, Need, Verdict};

/// Metrics that count effects.
const EFFECTS: &[(Effect, &str)] = &[
    (Effect::Redelivered, metric::REDELIVERED),
    (Effect::TakenOver, metric::TAKEN_OVER),
    (Effect::WriteFailed, metric::WRITE_FAILURES),
    (Effect::Rebuilt, metric::REBUILDS),
];

/// A running `millrace`.
pub struct Standalone {
    pub drill: Drill,
    pub node: Node,
    /// The projects that clients post for, with their limits.
    pub projects: Vec<(Arc<Project>, PlanLimits)>,
    targets: Targets,
    probes: Vec<Project>,
    epochs: Vec<String>,
    files: Files,
    folder: PathBuf,
    effects: BTreeMap<Effect, u64>,
    findings: Findings,
    watch: Watch,
}

impl Standalone {
    /// Starts it on a folder with these additional settings, and waits until it serves.
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
        variables.extend(more);
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut node = Node::new("millrace", &drill, owned.collect());
        node.start().await;
        let operator = Operator::new(&drill, &[("DATA_DIR", &data)]);
        let (projects, probes) = operator.projects(LIMITED, 1).await;
        let files = Files::new(&folder);
        let epochs = files.epochs().await.into_iter().filter_map(|(epoch, _)| epoch).collect();
        let targets = Targets::default();
        targets.set(vec![node.address().await]);
        Self {
            watch: Watch::start(Meters::Files(files.clone())),
            effects: BTreeMap::new(),
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

    /// Creates the project `customers`, and starts the program again, so that it knows the limits before the
    /// first event comes.
    pub async fn add_customers(&mut self) {
        self.projects.push(self.operator().customers().await);
        self.node.kill().await;
        self.start_again(&[]).await;
    }

    /// Call it before the epoch is removed: it may then change, and rates begin at zero.
    pub fn expect_rebuild(&mut self) {
        self.epochs.clear();
    }

    /// Removes the epoch and the counters of limits from the stream, as if it had lost them. The program must
    /// not run.
    ///
    /// # Panics
    /// When the file cannot be changed.
    pub fn forget_epoch(&self) {
        let file = rusqlite::Connection::open(self.folder.join("stream.db")).expect("the file can be opened");
        let forget = "UPDATE shard SET epoch = NULL; DELETE FROM limit_counters";
        file.execute_batch(forget).expect("the file can be changed");
    }

    /// Starts clients that post for one project.
    pub fn load_of(&self, project: &str, load: Load) -> Clients {
        Clients::start(&[self.project(project)], &self.targets, load, self.drill.seed)
    }

    /// The addresses to which clients post.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The project with this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn project(&self, name: &str) -> Arc<Project> {
        let found = self.projects.iter().find(|(project, _)| project.name == name);
        Arc::clone(&found.unwrap_or_else(|| panic!("no project is called {name:?}")).0)
    }

    pub(crate) fn operator(&self) -> Operator {
        Operator::new(&self.drill, &[("DATA_DIR", &self.folder.display().to_string())])
    }

    /// Starts clients that post for every project until [`Standalone::finish`].
    pub fn load(&self, load: Load) -> Clients {
        let projects: Vec<_> = self.projects.iter().map(|(project, _)| Arc::clone(project)).collect();
        Clients::start(&projects, &self.targets, load, self.drill.seed)
    }

    /// Starts it again, with additional variables for this run.
    pub async fn start_again(&mut self, more: &[(&str, &str)]) {
        self.node.start_with(more).await;
        self.targets.set(vec![self.node.address().await]);
    }

    /// Waits until this many more requests were answered 5xx or not at all.
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

    /// Adds effects that no metric counts.
    pub fn note(&mut self, effect: Effect, count: u64) {
        *self.effects.entry(effect).or_default() += count;
    }

    /// Ends the drill. `needs` are the effects without which the drill proves nothing.
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
            named_losses: None,
        };
        for text in self.node.bounds() {
            self.findings.add(Invariant::Bounded, format!("the program {text}"));
        }
        let (findings, watch) = (std::mem::take(&mut self.findings), self.watch);
        let mut verdict = conclude(Ending { api, subject, probes: &self.probes, watch }, findings).await;
        verdict.count_metrics(&mut self.node, EFFECTS).await;
        for project in &self.projects {
            let sums = self.files.sums(project.0.id).await;
            *verdict.effects.entry(Effect::Duplicate).or_default() += sums.ledger[2];
            *verdict.effects.entry(Effect::DeadLettered).or_default() += sums.ledger[3];
            *verdict.effects.entry(Effect::Conflict).or_default() += sums.ledger[4];
        }
        for (effect, count) in &self.effects {
            *verdict.effects.entry(*effect).or_default() += count;
        }
        verdict.demand(needs);
        if !verdict.passed() {
            verdict.keep_evidence(
                &self.drill,
                [("millrace.log".to_owned(), self.node.log())],
                &[self.folder],
            );
        }
        verdict
    }
}
