//! A program that a drill kills and starts again, as one node with several runs.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::http::HttpClient;
use testkit::{Launch, Program, ResourceLimits, eventually};

use crate::drill::Drill;

/// The program of `faults/mutants`. Its first argument is the name of the program that it replaces.
pub const MUTANT_PROGRAM: &str = "mutant";

/// How long a program may take to start, or to notice that what it needs is back.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// How long a scrape of metrics may take: the program may be paused.
const METRICS_DEADLINE: Duration = Duration::from_secs(2);

/// What each program logs when it works.
const READY: &[(&str, &str)] = &[
    ("ingest-api", "listening on http://"),
    ("stream-worker", "lanes are draining"),
    ("millrace", "Ctrl-C stops it"),
];
/// Resident memory of one program, at most. Generous: these are debug builds.
const RESIDENT_BYTES_MAX: u64 = 512 << 20;
/// Open files of one idle program, at most.
const OPEN_FILES_MAX: usize = 128;

/// An API or a worker.
#[derive(Debug)]
pub struct Node {
    /// The program of the product that it is, or that its mutant replaces.
    name: &'static str,
    mutant: Option<&'static str>,
    profile: String,
    variables: Vec<(String, String)>,
    pub limits: ResourceLimits,
    program: Option<Program>,
    starts: usize,
    /// Whether this run has additional variables, such as failpoints that may still be armed.
    rigged: bool,
    /// Logs of earlier runs.
    past_log: String,
    /// Metrics of earlier runs, as far as they could be read.
    past_metrics: String,
}

impl Node {
    /// Creates a node without starting it.
    pub(crate) fn new(name: &'static str, drill: &Drill, variables: Vec<(String, String)>) -> Self {
        let (past_log, past_metrics) = (String::new(), String::new());
        Self {
            name,
            mutant: drill.mutant,
            profile: drill.profile.clone(),
            variables,
            limits: ResourceLimits::default(),
            program: None,
            starts: 0,
            rigged: false,
            past_log,
            past_metrics,
        }
    }

    /// Starts it unless it runs, and waits until it works.
    pub async fn start(&mut self) {
        self.start_with(&[]).await;
    }

    /// Starts it with additional variables for this run, and waits until it works.
    pub async fn start_with(&mut self, more: &[(&str, &str)]) {
        self.launch(more);
        self.ready().await;
    }

    /// Waits until it works.
    pub async fn ready(&mut self) {
        let ready = READY.iter().find(|(name, _)| *name == self.name).expect("every program has a line");
        self.program().wait_for_line(ready.1).await;
    }

    /// Starts it unless it runs, and does not wait.
    pub fn launch(&mut self, more: &[(&str, &str)]) {
        if self.is_running() {
            return;
        }
        self.keep_log();
        let own = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mutant = self.mutant.map(|mutant| ("MILLRACE_MUTANT", mutant));
        let variables: Vec<_> = own.chain(mutant).chain(more.iter().copied()).collect();
        let program = if mutant.is_some() { MUTANT_PROGRAM } else { self.name };
        let arguments: &[&str] = if mutant.is_some() { &[self.name] } else { &[] };
        self.starts += 1;
        self.rigged = !more.is_empty();
        self.program = Some(Program::launch(
            program,
            &Launch {
                profile: Some(&self.profile),
                arguments,
                variables: &variables,
                limits: self.limits,
                ..Launch::default()
            },
        ));
    }

    /// Sets a variable for later runs.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// The process of this run.
    ///
    /// # Panics
    /// When it was never started.
    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("the node was started")
    }

    /// Number of times that it was started.
    pub fn starts(&self) -> usize {
        self.starts
    }

    /// Whether this run has additional variables, such as failpoints that may still be armed.
    pub fn is_rigged(&self) -> bool {
        self.rigged
    }

    /// A paused process runs too.
    pub fn is_running(&mut self) -> bool {
        self.program.as_mut().is_some_and(Program::is_running)
    }

    /// Sends SIGKILL, after reading the metrics.
    pub async fn kill(&mut self) {
        self.remember_metrics().await;
        self.program().kill().await;
    }

    /// Sends SIGTERM and returns the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.remember_metrics().await;
        self.program().terminate();
        self.program().wait_exit().await.code()
    }

    /// Waits until a failpoint has killed it.
    pub async fn died(&mut self) {
        self.program().wait_exit().await;
    }

    /// The address where it listens for clients.
    pub async fn address(&mut self) -> SocketAddr {
        self.program().address().await
    }

    /// A counter or gauge, summed over its labels and all runs of this node.
    pub async fn metric(&mut self, metric: &str) -> f64 {
        let now = if self.is_running() { self.metrics().await } else { String::new() };
        sum(&self.past_metrics, metric) + sum(&now, metric)
    }

    /// Waits until a metric is at least this.
    pub async fn reaches(&mut self, metric: &str, at_least: f64) {
        let what = format!("{metric} to reach {at_least}");
        eventually(SOON, &what, async || {
            let now = self.metric(metric).await;
            if now >= at_least { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    }

    /// The bounds of I11 that it exceeds.
    ///
    /// # Panics
    /// When it does not run.
    pub(crate) fn bounds(&mut self) -> Vec<String> {
        let (files, bytes) = (self.program().open_files(), self.program().resident_bytes());
        let mut broken = Vec::new();
        if files > OPEN_FILES_MAX {
            broken.push(format!("has {files} files open"));
        }
        if bytes > RESIDENT_BYTES_MAX {
            broken.push(format!("holds {bytes} bytes of memory"));
        }
        broken
    }

    /// The log of all runs.
    pub fn log(&self) -> String {
        let now = self.program.as_ref().map(Program::log).unwrap_or_default();
        format!("{}{now}", self.past_log)
    }

    fn keep_log(&mut self) {
        if let Some(ended) = self.program.take() {
            self.past_log.push_str(&ended.log());
        }
    }

    async fn remember_metrics(&mut self) {
        if self.is_running() {
            let metrics = self.metrics().await;
            self.past_metrics.push_str(&metrics);
        }
    }

    async fn metrics(&mut self) -> String {
        let scrape = async {
            let address = self.program().metrics_address().await;
            HttpClient::new(address).get("/metrics", &[]).await.ok()
        };
        let answer = tokio::time::timeout(METRICS_DEADLINE, scrape).await.ok().flatten();
        answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned()).unwrap_or_default()
    }
}

fn sum(metrics: &str, name: &str) -> f64 {
    let of_metric = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    metrics.lines().filter(of_metric).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
