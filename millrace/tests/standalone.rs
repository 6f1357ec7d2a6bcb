//! `millrace` alone, as a newcomer meets it: one command, no servers.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::http::{get, post};
use testkit::{Postgres, Program, Redis};

/// A newcomer's machine: a folder, and nothing else.
struct Newcomer {
    home: TempDir,
    settings: Vec<(&'static str, String)>,
}

impl Newcomer {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        let data = home.path().join("data").display().to_string();
        let settings = vec![
            ("DATA_DIR", data),
            ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("METRICS_ADDR", "127.0.0.1:0".to_owned()),
        ];
        Self { home, settings }
    }

    fn settings(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    fn data(&self) -> std::path::PathBuf {
        self.home.path().join("data")
    }

    /// Starts the program, and waits until it has said how to begin.
    async fn start(&self) -> Served {
        let mut program = Program::start("millrace", &self.settings());
        let events = program.wait_for_line("/v1/events").await;
        program.wait_for_line("Ctrl-C stops it").await;
        let address = events.split("http://").nth(1).unwrap().trim_end_matches("/v1/events");
        Served { address: address.parse().unwrap(), program }
    }

    async fn command(&self, arguments: &[&str]) -> testkit::ProgramOutput {
        Program::run("millrace", arguments, &self.settings()).await
    }

    async fn audit(&self) -> Value {
        let finished = self.command(&["audit", "--json"]).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        serde_json::from_str(&finished.stdout).unwrap()
    }
}

struct Served {
    program: Program,
    address: std::net::SocketAddr,
}

impl Served {
    fn key(&self) -> String {
        let log = self.program.log();
        let key = log.split_whitespace().find(|word| word.starts_with("mk_"));
        key.unwrap_or_else(|| panic!("no key was printed:\n{log}")).to_owned()
    }

    /// SIGINT, as Ctrl-C sends it.
    async fn interrupt(mut self) -> String {
        self.program.interrupt();
        assert!(self.program.wait_exit().await.success(), "{}", self.program.log());
        self.program.log()
    }
}

fn paste(line: &str, folder: &Path) -> Output {
    Command::new("sh").args(["-c", line]).current_dir(folder).output().unwrap()
}

#[tokio::test]
async fn the_line_that_is_printed_works_when_it_is_pasted_and_the_event_is_stored() {
    let newcomer = Newcomer::new();
    let mut served = newcomer.start().await;
    let line = served.program.wait_for_line("curl ").await;
    let output = tokio::task::spawn_blocking({
        let folder = newcomer.home.path().to_owned();
        move || paste(&line, &folder)
    })
    .await
    .unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}\n{}", String::from_utf8_lossy(&output.stderr));
    served.program.wait_for_line("stored 1").await;
    let balance = &newcomer.audit().await["projects"][0];
    assert_eq!((&balance["name"], &balance["stored"]), (&json!("default"), &json!(1)), "while it serves");
    let said = served.interrupt().await;
    assert!(said.contains("Everything accepted is stored."), "{said}");
    let balance = &newcomer.audit().await["projects"][0];
    assert_eq!(
        (&balance["accepted"], &balance["stored"]),
        (&json!(1), &json!(1)),
        "and after it was stopped"
    );
}

#[tokio::test]
async fn a_second_start_finds_everything_as_it_was() {
    let newcomer = Newcomer::new();
    let served = newcomer.start().await;
    let key = served.key();
    let event = json!({ "name": "n", "id": "e-1", "timestamp": "2026-11-20T00:00:00Z" });
    let path = "/v1/events";
    let bearer = format!("Bearer {key}");
    let send = async |address| {
        let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
        post(address, path, &headers, event.to_string()).await.json()
    };
    assert_eq!(send(served.address).await["stored"], 1);
    served.interrupt().await;

    let again = newcomer.start().await;
    assert!(!again.program.log().contains("mk_"), "a key is shown once:\n{}", again.program.log());
    let answer = send(again.address).await;
    assert_eq!((&answer["stored"], &answer["duplicate"]), (&json!(0), &json!(1)), "the event is known");
    let usage = get(again.address, "/v1/usage", &[("authorization", &bearer)]).await;
    assert_eq!(usage.status, 200, "the key is known");
    assert!(again.program.log().contains("stored 1"), "{}", again.program.log());
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_an_interrupt_stores_it_first() {
    let newcomer = Newcomer::new();
    let mut served = newcomer.start().await;
    let bearer = format!("Bearer {}", served.key());
    let batch = |first: u32| {
        let event = |number| json!({ "name": "n", "id": format!("e-{number}") });
        json!({ "events": (first..first + 500).map(event).collect::<Vec<_>>() }).to_string()
    };
    for round in 0..4 {
        let answer =
            post(served.address, "/v1/events", &[("authorization", &bearer)], batch(round * 500)).await;
        assert_eq!(answer.status, 202);
    }
    served.program.kill().await;

    let again = newcomer.start().await;
    let answer = post(again.address, "/v1/events", &[("authorization", &bearer)], batch(2_000)).await;
    assert_eq!(answer.status, 202);
    again.interrupt().await;
    let balance = &newcomer.audit().await["projects"][0];
    assert_eq!((&balance["accepted"], &balance["stored"]), (&json!(2_500), &json!(2_500)), "{balance}");
}

#[tokio::test]
async fn a_folder_serves_one_process_and_nobody_else_can_enter_it() {
    use std::os::unix::fs::PermissionsExt;
    let newcomer = Newcomer::new();
    let early = newcomer.command(&["audit"]).await;
    assert_eq!(early.code, Some(1), "{early:?}");
    assert!(
        early.stderr.contains("there is no installation in") && early.stderr.contains("DATA_DIR"),
        "{early:?}"
    );
    assert!(!newcomer.data().exists(), "looking makes nothing");

    let _served = newcomer.start().await;
    let mode = std::fs::metadata(newcomer.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let second = newcomer.command(&[]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("used by another process"), "{second:?}");
}

#[tokio::test]
async fn projects_and_keys_made_beside_a_serving_process_work_at_once() {
    let newcomer = Newcomer::new();
    let served = newcomer.start().await;
    let made = newcomer.command(&["project", "create", "shop", "--plan", "free", "--json"]).await;
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    let bearer = format!("Bearer {}", made["key"].as_str().unwrap());
    let limits = async || get(served.address, "/v1/limits", &[("authorization", &bearer)]).await.status;
    testkit::eventually(std::time::Duration::from_secs(30), "the key to be known", async || {
        match limits().await {
            200 => Ok(()),
            status => Err(format!("answered {status}")),
        }
    })
    .await;
    let revoked = newcomer.command(&["key", "revoke", &made["key_id"].to_string()]).await;
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    testkit::eventually(std::time::Duration::from_secs(30), "the key to be refused", async || match limits()
        .await
    {
        401 => Ok(()),
        status => Err(format!("answered {status}")),
    })
    .await;
}

#[tokio::test]
async fn with_both_urls_the_same_command_runs_on_servers() {
    let (redis, postgres) = (Redis::start().await, Postgres::start().await);
    let mut newcomer = Newcomer::new();
    newcomer.settings.extend([("REDIS_URL", redis.url()), ("DATABASE_URL", postgres.url())]);
    let served = newcomer.start().await;
    let bearer = format!("Bearer {}", served.key());
    let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
    let sent = async || {
        let answer = post(served.address, "/v1/events", &headers, r#"{"name":"n"}"#).await;
        match answer.status {
            200 => Ok(()),
            status => Err(format!("answered {status}")),
        }
    };
    testkit::eventually(std::time::Duration::from_secs(30), "an event to be stored", sent).await;
    let row = postgres.connect().await.query_one("SELECT count(*) FROM events", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    assert!(!newcomer.data().exists(), "no folder is made");
    served.interrupt().await;
}

#[tokio::test]
async fn bad_settings_end_with_2_before_anything_is_made() {
    let bad: [&[(&str, &str)]; 5] = [
        &[("REDIS_URL", "redis://127.0.0.1/0")],
        &[("DATABASE_URL", "postgres://127.0.0.1/millrace")],
        &[("LISTEN_ADDR", "localhost")],
        &[("WORKER_LANES", "0")],
        &[("DATA_DIR", "")],
    ];
    let names = ["DATABASE_URL", "REDIS_URL", "LISTEN_ADDR", "WORKER_LANES", "DATA_DIR"];
    for (settings, name) in bad.into_iter().zip(names) {
        let newcomer = Newcomer::new();
        let all = [newcomer.settings(), settings.to_vec()].concat();
        let finished = Program::run("millrace", &[], &all).await;
        assert_eq!(finished.code, Some(2), "{settings:?}: {finished:?}");
        assert!(finished.stderr.contains(name), "{settings:?}: {finished:?}");
        assert!(!newcomer.data().exists(), "{settings:?}");
    }
}
