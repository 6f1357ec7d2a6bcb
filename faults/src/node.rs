//! One of our programs through all its lives: killed, restarted, and still the same node to a drill.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::http::HttpClient;
use testkit::{Launch, Program, ResourceLimits, eventually};

/// How long a program may take to start, or to notice that what it needs is back.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// How long its metrics may take before they are given up: it may be stopped.
const METRICS_DEADLINE: Duration = Duration::from_secs(2);

/// What a program says when it is at work.
const READY: &[(&str, &str)] = &[
    ("ingest-api", "listening on http://"),
    ("stream-worker", "lanes are draining"),
    ("millrace", "Ctrl-C stops it"),
];
/// Resident memory of one program, at most. Generous: these are debug builds.
const RESIDENT_BYTES_MAX: u64 = 512 << 20;
/// Open files of one program when all is quiet, at most.
const OPEN_FILES_MAX: usize = 128;

/// An API or a worker.
#[derive(Debug)]
pub struct Node {
    name: &'static str,
    profile: String,
    variables: Vec<(String, String)>,
    /// What it may have of the machine.
    pub limits: ResourceLimits,
    program: Option<Program>,
    lives: usize,
    /// Whether this life has variables of its own, such as failpoints that may still be armed.
    rigged: bool,
    /// Logs of the lives before this one.
    past_log: String,
    /// Metrics of the lives before this one, as far as they could still be asked for.
    past_metrics: String,
}

impl Node {
    /// A node that does not run yet.
    pub(crate) fn new(name: &'static str, profile: &str, variables: Vec<(String, String)>) -> Self {
        let (past_log, past_metrics) = (String::new(), String::new());
        Self {
            name,
            profile: profile.to_owned(),
            variables,
            limits: ResourceLimits::default(),
            program: None,
            lives: 0,
            rigged: false,
            past_log,
            past_metrics,
        }
    }

    /// Starts it, unless it runs; returns when it is at work.
    pub async fn start(&mut self) {
        self.start_with(&[]).await;
    }

    /// The same, with these variables for this life only.
    pub async fn start_with(&mut self, more: &[(&str, &str)]) {
        self.launch(more);
        self.ready().await;
    }

    /// Waits until it is at work.
    pub async fn ready(&mut self) {
        let ready =
            READY.iter().find(|(name, _)| *name == self.name).expect("every program has a sign of readiness");
        self.program().wait_for_line(ready.1).await;
    }

    /// Starts it, unless it runs, and does not wait.
    pub fn launch(&mut self, more: &[(&str, &str)]) {
        if self.is_running() {
            return;
        }
        self.bury();
        let own = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let variables: Vec<_> = own.chain(more.iter().copied()).collect();
        self.lives += 1;
        self.rigged = !more.is_empty();
        self.program = Some(Program::launch(
            self.name,
            &Launch {
                profile: Some(&self.profile),
                variables: &variables,
                limits: self.limits,
                ..Launch::default()
            },
        ));
    }

    /// Sets a variable for the lives to come.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// The process of this life.
    ///
    /// # Panics
    /// When it was never started.
    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("the node was started")
    }

    /// How often it was started.
    pub fn lives(&self) -> usize {
        self.lives
    }

    /// Whether this life has variables of its own, such as failpoints that may still be armed.
    pub fn is_rigged(&self) -> bool {
        self.rigged
    }

    /// Whether it runs; a stopped process runs, too.
    pub fn is_running(&mut self) -> bool {
        self.program.as_mut().is_some_and(Program::is_running)
    }

    /// SIGKILL. What it had counted is asked for just before.
    pub async fn kill(&mut self) {
        self.remember_metrics().await;
        self.program().kill().await;
    }

    /// SIGTERM; returns its exit code when it has ended by itself.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.remember_metrics().await;
        self.program().terminate();
        self.program().wait_exit().await.code()
    }

    /// Waits until it has died by its own hand: at a failpoint.
    pub async fn died(&mut self) {
        self.program().wait_exit().await;
    }

    /// Where it listens for clients.
    pub async fn address(&mut self) -> SocketAddr {
        self.program().address().await
    }

    /// A counter or gauge, summed over its labels and all the lives of this node.
    pub async fn metric(&mut self, metric: &str) -> f64 {
        let now = if self.is_running() { self.metrics().await } else { String::new() };
        sum(&self.past_metrics, metric) + sum(&now, metric)
    }

    /// Waits until a metric has grown to at least this.
    pub async fn reaches(&mut self, metric: &str, at_least: f64) {
        let what = format!("{metric} to reach {at_least}");
        eventually(SOON, &what, async || {
            let now = self.metric(metric).await;
            if now >= at_least { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    }

    /// In what it is not bounded (I11), in words.
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

    /// What it has logged in all its lives.
    pub fn log(&self) -> String {
        let now = self.program.as_ref().map(Program::log).unwrap_or_default();
        format!("{}{now}", self.past_log)
    }

    fn bury(&mut self) {
        if let Some(dead) = self.program.take() {
            self.past_log.push_str(&dead.log());
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
