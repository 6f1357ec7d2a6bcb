//! An installation for a test, on two files or on real servers, with commands and programs that run on it.

#![allow(dead_code, reason = "every test target uses a part of it")]

mod service;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Launch, Postgres, Program, ProgramOutput, Redis};

pub use self::service::Service;

/// Generous: only a defect exceeds it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Declare it before the programs that run on it, so that they stop before its servers.
pub struct Installation {
    folder: TempDir,
    servers: Option<(Redis, Postgres)>,
}

impl Installation {
    pub fn on_files() -> Self {
        Self { folder: TempDir::new().unwrap(), servers: None }
    }

    /// Redis and an empty PostgreSQL.
    pub async fn on_servers() -> Self {
        let servers = tokio::join!(Redis::start(), Postgres::start());
        Self { folder: TempDir::new().unwrap(), servers: Some(servers) }
    }

    pub fn redis(&mut self) -> &mut Redis {
        &mut self.servers.as_mut().expect("it is on servers").0
    }

    pub fn postgres(&mut self) -> &mut Postgres {
        &mut self.servers.as_mut().expect("it is on servers").1
    }

    /// A folder for other files.
    pub fn home(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// `DATA_DIR`, which does not exist before the first start.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("DATA_DIR", self.data().display().to_string()),
            ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("METRICS_ADDR", "127.0.0.1:0".to_owned()),
        ];
        if let Some((redis, postgres)) = &self.servers {
            settings.extend([("REDIS_URL", redis.url()), ("DATABASE_URL", postgres.url())]);
        }
        settings
    }

    /// Starts a program. `more` settings take precedence.
    pub fn program(&self, name: &str, more: &[(&str, &str)]) -> Program {
        let settings = self.settings();
        let own = settings.iter().map(|(name, value)| (*name, value.as_str()));
        Program::start(name, &own.chain(more.iter().copied()).collect::<Vec<_>>())
    }

    /// Starts a command and does not wait for its end.
    pub fn command(&self, arguments: &[&str]) -> Program {
        let settings = self.settings();
        let variables: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Program::launch("millrace", &Launch { arguments, variables: &variables, ..Launch::default() })
    }

    /// Starts `millrace`, and waits until it is ready.
    pub async fn serve(&self) -> Service {
        Service::of(self.program("millrace", &[])).await
    }

    /// As [`Installation::serve`], at this address.
    pub async fn serve_at(&self, address: &str) -> Service {
        Service::of(self.program("millrace", &[("LISTEN_ADDR", address)])).await
    }

    pub async fn run(&self, arguments: &[&str]) -> ProgramOutput {
        self.run_with(arguments, &[]).await
    }

    /// Runs a command. `more` settings take precedence.
    pub async fn run_with(&self, arguments: &[&str], more: &[(&str, &str)]) -> ProgramOutput {
        let settings = self.settings();
        let own = settings.iter().map(|(name, value)| (*name, value.as_str()));
        Program::run("millrace", arguments, &own.chain(more.iter().copied()).collect::<Vec<_>>()).await
    }

    /// Runs a command that must succeed, and returns its output.
    pub async fn text(&self, arguments: &[&str]) -> String {
        let finished = self.run(arguments).await;
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{arguments:?}: {finished:?}");
        finished.stdout
    }

    /// As [`Installation::text`], for JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Runs a command that must fail with this code, this text in its error, and no output.
    pub async fn fails(&self, arguments: &[&str], code: i32, text: &str) {
        assert_fails(&self.run(arguments).await, code, text);
    }

    /// Creates a project, and returns its key.
    pub async fn project(&self, name: &str, plan: &str) -> String {
        let created = self.json(&["project", "create", name, "--plan", plan]).await;
        created["key"].as_str().unwrap().to_owned()
    }
}

pub fn assert_fails(finished: &ProgramOutput, code: i32, text: &str) {
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(code), ""), "{finished:?}");
    assert!(finished.stderr.contains(text), "{text:?} is not in {finished:?}");
}
