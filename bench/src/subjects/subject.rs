//! A running subject.

use testkit::{Authority, Program, Redis, eventually};

use super::name::SubjectName;
use super::table::EventsTable;
use crate::error::BenchError;
use crate::load::Target;
use crate::process::Process;
use crate::timeouts::PROCESS_READY;

/// The process that drains Redis, when it can be paused by itself.
pub(super) const STREAM_WORKER: &str = "stream-worker";

#[derive(Debug)]
pub struct Subject {
    pub name: SubjectName,
    pub target: Target,
    /// Declared before the servers, so that programs are stopped first.
    pub(super) programs: Vec<(&'static str, Program)>,
    pub redis: Option<Redis>,
    pub(super) replica: Option<Redis>,
    pub table: EventsTable,
    /// The settings that `millrace audit` needs, as environment variables.
    pub(super) variables: Vec<(&'static str, String)>,
    /// Removes the certificates when the subject is dropped.
    pub(super) _files: Option<Authority>,
}

impl Subject {
    /// A subject with no other server than PostgreSQL.
    pub(super) fn on_postgres(
        name: SubjectName,
        target: Target,
        programs: Vec<(&'static str, Program)>,
        table: EventsTable,
    ) -> Self {
        let (redis, replica, variables) = (None, None, Vec::new());
        Self { name, target, programs, redis, replica, table, variables, _files: None }
    }

    /// Whether events are stored after they are accepted. Such a subject counts in its table what it has
    /// settled.
    pub fn is_queued(&self) -> bool {
        self.name.is_queued()
    }

    /// All its processes, including servers.
    pub fn processes(&self) -> Vec<Process> {
        let programs = self.programs.iter().map(|(name, program)| Process::new(name, program.pid()));
        let redis = self.redis.iter().map(|redis| Process::new("redis", redis.pid()));
        let replica = self.replica.iter().map(|replica| Process::new("redis-replica", replica.pid()));
        programs.chain(redis).chain(replica).chain(self.table.process()).collect()
    }

    /// Pauses the stream-worker, so that events wait in Redis. Returns false for a subject without one.
    pub fn pause_worker(&mut self) -> bool {
        self.worker().map(|worker| worker.pause()).is_some()
    }

    pub fn resume_worker(&mut self) {
        if let Some(worker) = self.worker() {
            worker.resume();
        }
    }

    fn worker(&mut self) -> Option<&mut Program> {
        self.programs.iter_mut().find(|(name, _)| *name == STREAM_WORKER).map(|(_, program)| program)
    }

    /// Runs `millrace audit`, which counts every row. Does nothing for a subject without metering.
    ///
    /// # Errors
    /// When the audit fails. The message contains its output.
    pub async fn audit(&self) -> Result<(), BenchError> {
        if !self.name.is_millrace() {
            return Ok(());
        }
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let finished = Program::run("millrace", &["audit"], &variables).await;
        match finished.code {
            Some(0) => Ok(()),
            _ => Err(BenchError::new(format!(
                "{}: `millrace audit` failed, so the measurements are discarded: {}{}",
                self.name.as_str(),
                finished.stdout,
                finished.stderr
            ))),
        }
    }
}

/// Waits until the server answers 200 on `path`. Panics when it does not in time.
pub(super) async fn wait_until_ready(target: &Target, path: &str) {
    eventually(PROCESS_READY, "a subject to be ready", async || {
        let mut client = testkit::http::HttpClient::new(target.address);
        let answer = client.get(path, &[("authorization", &format!("Bearer {}", target.key()))]).await;
        match answer {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("{answer:?}")),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}
