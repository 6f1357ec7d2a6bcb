//! A `millrace` on files in a temporary folder, and the usage of its first project.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Program, eventually, http};

/// Generous: only a defect takes this long.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct Service {
    program: Program,
    address: SocketAddr,
    home: TempDir,
}

/// The totals of `GET /v1/usage`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    pub events: u64,
    pub duplicates: u64,
    pub dead: u64,
}

impl Service {
    pub async fn start() -> Self {
        let home = TempDir::new().unwrap();
        let data = home.path().join("data").display().to_string();
        let settings =
            [("DATA_DIR", data.as_str()), ("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")];
        let mut program = Program::start("millrace", &settings);
        let events = program.wait_for_line("/v1/events").await;
        let address = events.split("http://").nth(1).unwrap().trim_end_matches("/v1/events");
        program.wait_for_line("Ctrl-C stops it").await;
        Self { address: address.parse().unwrap(), program, home }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key of the first project, as it was printed.
    pub fn key(&self) -> String {
        let log = self.program.log();
        let key = log.split_whitespace().find(|word| word.starts_with("mk_"));
        key.unwrap_or_else(|| panic!("no key was printed:\n{log}")).to_owned()
    }

    /// Creates a key of the first project that requires signatures. Returns the key and its signing secret.
    pub async fn signed_key(&self) -> (String, String) {
        let data = self.home.path().join("data").display().to_string();
        let arguments = ["key", "create", "default", "--signed", "--json"];
        let finished = Program::run("millrace", &arguments, &[("DATA_DIR", &data)]).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let created: Value = serde_json::from_str(&finished.stdout).unwrap();
        let text = |name: &str| {
            created[name].as_str().unwrap_or_else(|| panic!("no {name} in {created}")).to_owned()
        };
        let key = text("key");
        let bearer = format!("Bearer {key}");
        // As soon as the API knows the key, the error is about the missing signature.
        eventually(DEADLINE, "the new key to be known", async || {
            let answer = http::get(self.address, "/v1/limits", &[("authorization", &bearer)]).await;
            let message = answer.json()["message"].to_string();
            if message.contains("webhook-signature") { Ok(()) } else { Err(message) }
        })
        .await;
        (key, text("signing_secret"))
    }

    pub async fn usage(&self) -> Usage {
        let bearer = format!("Bearer {}", self.key());
        let answer = http::get(self.address, "/v1/usage", &[("authorization", &bearer)]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let total = &answer.json()["total"];
        let count = |name: &str| {
            total.get(name).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {name} in {total}"))
        };
        Usage { events: count("events"), duplicates: count("duplicates"), dead: count("dead") }
    }

    /// Waits until the usage has exactly these counts.
    pub async fn wait_for_usage(&self, events: u64, duplicates: u64) {
        let expected = Usage { events, duplicates, dead: 0 };
        eventually(DEADLINE, &format!("the usage to be {expected:?}"), async || match self.usage().await {
            usage if usage == expected => Ok(()),
            usage => Err(format!("{usage:?}")),
        })
        .await;
    }
}
