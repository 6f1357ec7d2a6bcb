//! What is measured: four ways from HTTP into a table, each as real processes on real, durable servers of its own.
//!
//! What this room must never do: favour one of them. All take the same requests on the same route, all store into the same
//! table, and each has the machine to itself while it is measured.

mod copy_in_request;
mod direct_insert;
mod embedded;
mod millrace;
mod servers;
mod table;

use std::path::Path;

use testkit::{Program, Redis, eventually};

pub use self::copy_in_request::serve as serve_copy;
pub use self::servers::{POSTGRES_SETTINGS, REDIS_SETTINGS, postgres, prepared_table, redis};
pub use self::table::Table;
use crate::failure::Failure;
use crate::figures::process::Process;
use crate::load::Target;
use crate::patience::SOON;

/// The key that clients of every subject send.
const KEY: &str = "bench-key-of-the-shop-01";
/// The project it belongs to.
const PROJECT: &str = "shop";

/// Which way is measured.
#[derive(
    clap::ValueEnum, serde::Serialize, serde::Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug,
)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// ingest-api, Redis, stream-worker, PostgreSQL
    #[value(name = "millrace")]
    Millrace,
    /// `millrace` alone, on two SQLite files
    #[value(name = "embedded")]
    Embedded,
    /// A Python service that INSERTs inside the request: FastAPI, asyncpg, pydantic
    #[value(name = "direct_insert")]
    DirectInsert,
    /// A Rust service that COPYs inside the request
    #[value(name = "copy_in_request")]
    CopyInRequest,
}

impl Name {
    /// As it is written in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Millrace => "millrace",
            Self::Embedded => "embedded",
            Self::DirectInsert => "direct_insert",
            Self::CopyInRequest => "copy_in_request",
        }
    }
}

/// Where a subject's table shall lie, when not in a new place.
#[derive(Clone, Copy, Default, Debug)]
pub struct Place<'a> {
    /// A folder in which a PostgreSQL's data are kept from run to run.
    pub folder: Option<&'a Path>,
}

/// A subject at work.
#[derive(Debug)]
pub struct Subject {
    /// Which.
    pub name: Name,
    /// Where its requests go.
    pub target: Target,
    /// Its programs. They are gone before their servers.
    programs: Vec<(&'static str, Program)>,
    /// Its stream, when that is a Redis.
    pub redis: Option<Redis>,
    /// Where its events end.
    pub table: Table,
    /// What an audit is to be told of where things are.
    variables: Vec<(&'static str, String)>,
}

/// Starts a subject; returns when it takes requests.
///
/// # Errors
/// When something is missing on this machine.
pub async fn start(name: Name, place: Place<'_>) -> Result<Subject, Failure> {
    match name {
        Name::Millrace => millrace::start(place).await,
        Name::Embedded => embedded::start().await,
        Name::DirectInsert => direct_insert::start(place).await,
        Name::CopyInRequest => copy_in_request::start(place).await,
    }
}

impl Subject {
    /// Whether events are stored after they were accepted, and counted by what stores them.
    pub fn is_queued(&self) -> bool {
        matches!(self.name, Name::Millrace | Name::Embedded)
    }

    /// Its processes, servers included.
    pub fn processes(&self) -> Vec<Process> {
        let programs = self.programs.iter().map(|(name, program)| Process::new(name, program.pid()));
        let redis = self.redis.iter().map(|redis| Process::new("redis", redis.pid()));
        programs.chain(redis).chain(self.table.process()).collect()
    }

    /// Stops whatever drains the stream, so that events wait; false when it is not a process of its own.
    pub fn pause_drain(&mut self) -> bool {
        self.worker().map(|worker| worker.pause()).is_some()
    }

    /// The opposite.
    pub fn resume_drain(&mut self) {
        if let Some(worker) = self.worker() {
            worker.resume();
        }
    }

    fn worker(&mut self) -> Option<&mut Program> {
        self.programs.iter_mut().find(|(name, _)| *name == millrace::WORKER).map(|(_, program)| program)
    }

    /// Holds the operator's audit, which counts every row; says why when it does not hold. A subject without metering has
    /// nothing to audit but its rows, which whoever measures counts.
    ///
    /// # Errors
    /// What the audit has found.
    pub async fn audit(&self) -> Result<(), Failure> {
        if !self.is_queued() {
            return Ok(());
        }
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let finished = Program::run("millrace", &["audit"], &variables).await;
        match finished.code {
            Some(0) => Ok(()),
            _ => Err(Failure::new(format!("{}: {}{}", self.name.word(), finished.stdout, finished.stderr))),
        }
    }
}

/// Waits until a server answers 200 on this path.
async fn ready(target: &Target, path: &str) {
    eventually(SOON, "a subject to be ready", async || {
        let mut client = testkit::http::HttpClient::new(target.address);
        let answer = client.get(path, &[("authorization", &format!("Bearer {}", target.key))]).await;
        match answer {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("{answer:?}")),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}
