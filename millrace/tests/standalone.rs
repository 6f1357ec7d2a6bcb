//! `millrace` without a command and without servers, as a new user starts it.

mod installation;

use std::path::Path;
use std::process::{Command, Output};

use installation::{Installation, PATIENCE, assert_fails};
use serde_json::{Value, json};
use testkit::http::{get, post};

/// The audit of the first project; the audit must hold.
async fn audited(installation: &Installation) -> Value {
    installation.json(&["audit"]).await["projects"][0].take()
}

fn paste(line: &str, folder: &Path) -> Output {
    Command::new("sh").args(["-c", line]).current_dir(folder).output().unwrap()
}

#[tokio::test]
async fn the_printed_command_sends_an_event_that_is_stored() {
    let installation = Installation::on_files();
    let mut service = installation.serve().await;
    let line = service.program.wait_for_line("curl ").await;
    let output = tokio::task::spawn_blocking({
        let folder = installation.home();
        move || paste(&line, &folder)
    })
    .await
    .unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}\n{}", String::from_utf8_lossy(&output.stderr));
    service.program.wait_for_line("stored 1").await;
    let balance = audited(&installation).await;
    assert_eq!((&balance["name"], &balance["stored"]), (&json!("default"), &json!(1)), "while it serves");
    let printed = service.interrupt().await;
    assert!(printed.contains("Everything accepted is stored."), "{printed}");
    let balance = audited(&installation).await;
    assert_eq!(
        (&balance["accepted"], &balance["stored"]),
        (&json!(1), &json!(1)),
        "and after it was stopped"
    );
}

#[tokio::test]
async fn a_second_start_continues_with_the_same_data() {
    let installation = Installation::on_files();
    let service = installation.serve().await;
    let key = service.key();
    let event = json!({ "name": "n", "id": "e-1", "timestamp": "2026-11-20T00:00:00Z" });
    let path = "/v1/events";
    let bearer = format!("Bearer {key}");
    let send = async |address| {
        let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
        post(address, path, &headers, event.to_string()).await.json()
    };
    assert_eq!(send(service.address).await["stored"], 1);
    service.interrupt().await;

    let again = installation.serve().await;
    assert!(!again.program.log().contains("mk_"), "a key is shown once:\n{}", again.program.log());
    let answer = send(again.address).await;
    assert_eq!((&answer["stored"], &answer["duplicate"]), (&json!(0), &json!(1)), "the event is recognized");
    let usage = get(again.address, "/v1/usage", &[("authorization", &bearer)]).await;
    assert_eq!(usage.status, 200, "the key is accepted");
    assert!(again.program.log().contains("stored 1"), "{}", again.program.log());
}

#[tokio::test]
async fn acknowledged_events_survive_a_kill_and_an_interrupt_stores_them() {
    let installation = Installation::on_files();
    let mut service = installation.serve().await;
    let bearer = format!("Bearer {}", service.key());
    let batch = |first: u32| {
        let event = |number| json!({ "name": "n", "id": format!("e-{number}") });
        json!({ "events": (first..first + 500).map(event).collect::<Vec<_>>() }).to_string()
    };
    for round in 0..4 {
        let answer =
            post(service.address, "/v1/events", &[("authorization", &bearer)], batch(round * 500)).await;
        assert_eq!(answer.status, 202);
    }
    service.program.kill().await;

    let again = installation.serve().await;
    let answer = post(again.address, "/v1/events", &[("authorization", &bearer)], batch(2_000)).await;
    assert_eq!(answer.status, 202);
    again.interrupt().await;
    let balance = audited(&installation).await;
    assert_eq!((&balance["accepted"], &balance["stored"]), (&json!(2_500), &json!(2_500)), "{balance}");
}

#[tokio::test]
async fn a_folder_belongs_to_one_process_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let installation = Installation::on_files();
    let early = installation.run(&["audit"]).await;
    assert_eq!(early.code, Some(3), "{early:?}");
    assert!(
        early.stderr.contains("there is no installation in") && early.stderr.contains("DATA_DIR"),
        "{early:?}"
    );
    assert!(!installation.data().exists(), "a command creates nothing");

    let _service = installation.serve().await;
    let mode = std::fs::metadata(installation.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let second = installation.run(&[]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("used by another process"), "{second:?}");
}

#[tokio::test]
async fn a_running_service_applies_new_and_revoked_keys() {
    let installation = Installation::on_files();
    let service = installation.serve().await;
    let created = installation.json(&["project", "create", "shop", "--plan", "free"]).await;
    let key = created["key"].as_str().unwrap();
    service.answers(key, "the key to be accepted", |answer| answer.status == 200).await;
    installation.text(&["key", "revoke", &created["key_id"].to_string()]).await;
    service.answers(key, "the key to be refused", |answer| answer.status == 401).await;
}

#[tokio::test]
async fn with_both_urls_the_same_command_runs_on_servers() {
    let mut installation = Installation::on_servers().await;
    let service = installation.serve().await;
    let bearer = format!("Bearer {}", service.key());
    let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
    let sent = async || {
        let answer = post(service.address, "/v1/events", &headers, r#"{"name":"n"}"#).await;
        match answer.status {
            200 => Ok(()),
            status => Err(format!("answered {status}")),
        }
    };
    testkit::eventually(PATIENCE, "an event to be stored", sent).await;
    let row =
        installation.postgres().connect().await.query_one("SELECT count(*) FROM events", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    assert!(!installation.data().exists(), "no folder is created");
    service.interrupt().await;
}

#[tokio::test]
async fn a_goodbye_without_redis_does_not_claim_that_everything_is_stored() {
    let mut installation = Installation::on_servers().await;
    let service = installation.serve().await;
    let key = service.key();
    service.store(&key, r#"{"name":"n"}"#).await;
    installation.redis().kill().await;
    let printed = service.interrupt().await;
    assert!(printed.contains("is unknown: the stream is unreachable"), "{printed}");
    assert!(!printed.contains("Everything accepted is stored"), "{printed}");
}

#[tokio::test]
async fn a_setting_that_is_given_as_an_empty_variable_counts_as_not_set() {
    let installation = Installation::on_files();
    let empty = [
        ("REDIS_URL", ""),
        ("DATABASE_URL", " "),
        ("STREAM_SHARDS", ""),
        ("WORKER_LANES", ""),
        ("DURABILITY", ""),
        ("RUST_LOG", ""),
    ];
    let mut service = installation.program("millrace", &empty);
    service.wait_for_line("on two files in").await;
    let listed = installation.run_with(&["project", "list"], &empty).await;
    assert_eq!((listed.code, listed.stderr.as_str()), (Some(0), ""), "{listed:?}");
    service.interrupt();
    assert!(service.wait_exit().await.success());
}

#[tokio::test]
async fn bad_settings_end_with_2_before_anything_is_created() {
    for (name, value, error) in [
        ("REDIS_URL", "redis://127.0.0.1/0", "DATABASE_URL is not set: it is required with REDIS_URL"),
        (
            "DATABASE_URL",
            "postgres://127.0.0.1/millrace",
            "REDIS_URL is not set: it is required with DATABASE_URL",
        ),
        ("DATABASE_URL", "postgres://u:secret@h/d?sslcrl=/crl", "lists of revoked certificates are not read"),
        ("REDIS_URL", "rediss://u:secret@h/0#insecure", "certificates are always checked"),
        ("LISTEN_ADDR", "localhost", "LISTEN_ADDR=\"localhost\": expected ADDRESS:PORT"),
        ("WORKER_LANES", "0", "WORKER_LANES=\"0\": expected a whole number from 1 to 64"),
        (
            "BODIES_IN_FLIGHT_BYTES_MAX",
            "4096",
            "BODIES_IN_FLIGHT_BYTES_MAX=\"4096\": expected a whole number from 25165824",
        ),
        ("RUST_LOG", "loud", "RUST_LOG=\"loud\": expected levels such as info"),
        (
            "DATABASE_URL",
            "postgres://u:secret@h/d?schema=app&sslrootcert=ca.pem",
            "without schema=app: the tables",
        ),
        ("REDIS_URL", "redis://:secret@h/0?timeout=5", "the parameter timeout is not supported"),
    ] {
        let installation = Installation::on_files();
        let finished = installation.run_with(&[], &[(name, value)]).await;
        assert_fails(&finished, 2, error);
        assert!(!finished.stderr.contains("secret"), "{finished:?}");
        assert!(!installation.data().exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_at_the_moment_of_a_first_start_find_no_installation_or_all_its_tables() {
    for _ in 0..3 {
        let installation = Installation::on_files();
        let mut service = installation.program("millrace", &[]);
        let created = testkit::eventually(PATIENCE, "a project to be created", async || {
            let created = installation.run(&["project", "create", "shop", "--plan", "pro"]).await;
            assert!(!created.stderr.contains("no such table"), "{created:?}");
            match created.code {
                Some(0) => Ok(created.stdout),
                _ if created.stderr.contains("there is no installation in") => Err(created.stderr),
                _ => panic!("{created:?}"),
            }
        })
        .await;
        assert!(created.contains("Created project shop"), "{created}");
        service.interrupt();
        assert!(service.wait_exit().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_first_starts_on_the_same_servers_migrate_once_and_commands_never_find_half_of_the_tables() {
    let installation = Installation::on_servers().await;
    let mut services: Vec<_> = (0..3).map(|_| installation.program("millrace", &[])).collect();
    testkit::eventually(PATIENCE, "a project to be created", async || {
        let created = installation.run(&["project", "create", "shop", "--plan", "pro"]).await;
        match created.code {
            Some(0) => Ok(()),
            _ if created.stderr.contains("run `millrace migrate`") => Err(created.stderr),
            _ => panic!("{created:?}"),
        }
    })
    .await;
    for service in &mut services {
        service.wait_for_line("Ctrl-C stops it").await;
        assert!(!service.log().contains("does not exist"), "{}", service.log());
        service.interrupt();
        assert!(service.wait_exit().await.success());
    }
}

#[tokio::test]
async fn a_folder_or_a_file_that_cannot_be_used_is_named_with_its_setting() {
    let installation = Installation::on_files();
    let file = installation.home().join("file");
    std::fs::write(&file, "x").unwrap();
    let refused = installation.run_with(&[], &[("DATA_DIR", file.to_str().unwrap())]).await;
    assert_fails(&refused, 1, "error: DATA_DIR: ");
    assert!(refused.stderr.contains("cannot be used as a folder"), "{refused:?}");

    std::fs::create_dir(installation.data()).unwrap();
    for name in ["stream.db", "events.db"] {
        let path = installation.data().join(name);
        std::fs::write(&path, [0x5a; 32_768]).unwrap();
        let refused = installation.run(&[]).await;
        assert_fails(&refused, 1, path.to_str().unwrap());
        assert!(refused.stderr.contains("restore it from a backup"), "{refused:?}");
        // Not 1, which says of an audit that it does not hold.
        for command in ["audit", "usage"] {
            let refused = installation.run(&[command]).await;
            assert_eq!(refused.code, Some(3), "{command} with a damaged {name}: {refused:?}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn programs_on_a_database_without_tables_say_what_to_run_and_stop_without_having_drained() {
    let installation = Installation::on_servers().await;
    for name in ["ingest-api", "stream-worker"] {
        let mut program = installation.program(name, &[]);
        program.wait_for_line("run `millrace migrate`").await;
        program.terminate();
        assert!(program.wait_exit().await.success());
        assert!(!program.log().contains("lanes are draining"), "{}", program.log());
    }
    installation.fails(&["project", "list"], 1, "run `millrace migrate`").await;
    installation.fails(&["audit"], 3, "run `millrace migrate`").await;
}

#[tokio::test]
async fn an_audit_says_why_redis_refuses_it() {
    let mut installation = Installation::on_servers().await;
    installation.text(&["migrate"]).await;
    let port = installation.redis().port();
    let password = format!("redis://:hunter2@127.0.0.1:{port}/0");
    let refused = installation.run_with(&["audit"], &[("REDIS_URL", &password)]).await;
    assert_fails(&refused, 3, "REDIS_URL has a password, and this Redis has none");
    installation.redis().run(&["CONFIG", "SET", "requirepass", "right"]).await;
    let refused = installation.run_with(&["audit"], &[("REDIS_URL", &password)]).await;
    assert_fails(&refused, 3, "WRONGPASS");
    assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
    installation.fails(&["audit"], 3, "NOAUTH").await;
    let absent = installation.postgres().url().replacen("/postgres", "/absent", 1);
    let refused = installation.run_with(&["usage"], &[("DATABASE_URL", &absent)]).await;
    assert_fails(&refused, 3, "check DATABASE_URL");
}
