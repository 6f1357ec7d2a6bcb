//! A `millrace` that serves, on two files or on servers, and an operator's commands beside it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::http::{Answer, get, post};
use testkit::{Postgres, Program, ProgramOutput, Redis, eventually};

/// Generous: a deadline that is met only by a defect.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Installation {
    // It stops before what it runs on does.
    _program: Program,
    _servers: Option<(Redis, Postgres)>,
    _folder: TempDir,
    settings: Vec<(&'static str, String)>,
    address: SocketAddr,
}

impl Installation {
    pub async fn in_a_folder() -> Self {
        Self::start(None).await
    }

    pub async fn on_servers() -> Self {
        Self::start(Some((Redis::start().await, Postgres::start().await))).await
    }

    async fn start(servers: Option<(Redis, Postgres)>) -> Self {
        let folder = TempDir::new().unwrap();
        let mut settings = vec![
            ("DATA_DIR", folder.path().join("data").display().to_string()),
            ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("METRICS_ADDR", "127.0.0.1:0".to_owned()),
        ];
        if let Some((redis, postgres)) = &servers {
            settings.extend([("REDIS_URL", redis.url()), ("DATABASE_URL", postgres.url())]);
        }
        let variables: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut program = Program::start("millrace", &variables);
        let events = program.wait_for_line("/v1/events").await;
        let address = events.split("http://").nth(1).unwrap().trim_end_matches("/v1/events").parse().unwrap();
        program.wait_for_line("Ctrl-C stops it").await;
        Self { _program: program, _servers: servers, _folder: folder, settings, address }
    }

    pub async fn run(&self, arguments: &[&str]) -> ProgramOutput {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Program::run("millrace", arguments, &settings).await
    }

    /// Runs a command that must succeed, and returns what it prints.
    pub async fn text(&self, arguments: &[&str]) -> String {
        let finished = self.run(arguments).await;
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{arguments:?}: {finished:?}");
        finished.stdout
    }

    /// The same, as JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Runs a command that must be refused with this code and these words.
    pub async fn fails(&self, arguments: &[&str], code: i32, says: &str) {
        let finished = self.run(arguments).await;
        assert_eq!(
            (finished.code, finished.stdout.as_str()),
            (Some(code), ""),
            "{arguments:?}: {finished:?}"
        );
        assert!(finished.stderr.contains(says), "{says:?} is not in {finished:?}");
    }

    /// Asks the service with a key, until it answers like this.
    pub async fn answers(&self, key: &str, what: &str, is_right: impl Fn(&Answer) -> bool) {
        let bearer = format!("Bearer {key}");
        eventually(PATIENCE, what, async || {
            let answer = get(self.address, "/v1/limits", &[("authorization", &bearer)]).await;
            if is_right(&answer) { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }

    /// Posts a batch with a key that was just made, and waits until it is stored.
    pub async fn store(&self, key: &str, body: &str) {
        self.answers(key, "the key to be known", |answer| answer.status == 200).await;
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
        let answer = post(self.address, "/v1/events", &headers, body.to_owned()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
