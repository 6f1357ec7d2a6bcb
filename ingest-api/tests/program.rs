//! The program ingest-api: settings, log lines, and exit codes.

use testkit::http;
use testkit::{Postgres, Program, Redis, eventually};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
const FREE_PORTS: [(&str, &str); 2] = [("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")];

#[tokio::test]
async fn a_wrong_setting_ends_the_program_with_an_error_that_names_it() {
    for (variable, value) in [
        ("LISTEN_ADDR", "localhost:8080"),
        ("METRICS_ADDR", "9100"),
        ("REDIS_URL", "http://127.0.0.1"),
        ("DATABASE_URL", "postgres://127.0.0.1/millrace?sslmode=verify-full"),
        ("RUST_LOG", "loud"),
        ("STREAM_SHARDS", "0"),
        ("BACKLOG_EVENTS_MAX", "many"),
        ("DURABILITY", "some"),
        ("LOG_FORMAT", "xml"),
        ("BODY_BYTES_MAX", "4MB"),
        ("SDK_BODY_BYTES_MAX", "8MB"),
        ("BODY_DECODED_BYTES_MAX", "0"),
        ("BODIES_IN_FLIGHT_BYTES_MAX", "1"),
        ("CONNECTIONS_MAX", "0"),
        ("HEADER_TIMEOUT_MS", "5s"),
        ("BODY_TIMEOUT_MS", "x"),
        ("BODY_TIME_MAX_MS", "0"),
        ("DRAIN_GRACE_MS", "-1"),
        ("REDIS_CONNECTIONS", "0"),
    ] {
        let variables = [&FREE_PORTS[..], &[(variable, value)]].concat();
        let finished = Program::run("ingest-api", &[], &variables).await;
        assert_eq!(finished.code, Some(2), "{variable}={value:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(variable), "{variable}={value:?}: {}", finished.stderr);
        assert!(!finished.stderr.contains("listening"), "{variable}={value:?}: {}", finished.stderr);
    }
}

#[tokio::test]
async fn an_empty_variable_counts_as_not_set() {
    let empty = ["REDIS_URL", "DATABASE_URL", "BODY_TIMEOUT_MS", "DURABILITY", "STATUS_PAGE", "RUST_LOG"];
    let variables = [&FREE_PORTS[..], &empty.map(|name| (name, ""))].concat();
    let mut program = Program::start("ingest-api", &variables);
    assert_eq!(http::get(program.address().await, "/healthz", &[]).await.status, 200);
}

#[tokio::test]
async fn an_address_in_use_ends_the_program_with_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let finished = Program::run("ingest-api", &[], &[("LISTEN_ADDR", &address), FREE_PORTS[1]]).await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains(&format!("LISTEN_ADDR={address}")), "{}", finished.stderr);
}

#[tokio::test]
async fn the_program_starts_before_its_servers_serves_once_they_are_up_and_exits_with_0() {
    use millrace_store::postgres::{PostgresOptions, PostgresStore};
    use millrace_store::{KeyOptions, Operators, PolicyChange};

    let (mut redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
    redis.kill().await;
    let (redis_url, database_url) = (redis.url(), postgres.url());
    let backends = [("REDIS_URL", redis_url.as_str()), ("DATABASE_URL", database_url.as_str())];
    let mut program = Program::start("ingest-api", &[&FREE_PORTS[..], &backends].concat());
    let (address, metrics) = (program.address().await, program.metrics_address().await);
    assert_eq!(http::get(address, "/healthz", &[]).await.status, 200);
    assert_eq!(http::get(address, "/readyz", &[]).await.status, 503);

    redis.restart().await;
    let options =
        PostgresOptions { source: postgres.config().into(), pool_size: 1, application: "test-ingest-api" };
    let store = PostgresStore::new(options);
    store.migrate().await.unwrap();
    let (_, key) =
        store.create_project("test", "pro", &PolicyChange::default(), &KeyOptions::default()).await.unwrap();
    let bearer = format!("Bearer {}", key.key);
    eventually(PATIENCE, "a batch to be accepted", async || {
        let answer =
            http::post(address, "/v1/events", &[("authorization", &bearer)], r#"{"name":"a"}"#).await;
        (answer.status == 202).then_some(()).ok_or(format!("{answer:?}"))
    })
    .await;
    // The label is the pattern of the route, and not the path as it was sent.
    let with_a_slash =
        http::post(address, "/v1/events/", &[("authorization", &bearer)], r#"{"name":"a"}"#).await;
    assert_eq!(with_a_slash.status, 202);
    let page = http::get(metrics, "/metrics", &[]).await;
    let page = String::from_utf8_lossy(&page.body).into_owned();
    for line in [
        r#"millrace_http_requests_total{route="/v1/events",status="202"} 2"#,
        "millrace_admitted_events_total 2",
        "millrace_durability_faults_total 0",
        "millrace_durability_strict 1",
        "millrace_epoch_trusted 1",
    ] {
        assert!(page.contains(line), "{line} in:\n{page}");
    }
    assert_eq!(http::get(address, "/metrics", &[]).await.status, 404, "metrics are not served to clients");
    assert!(!program.log().contains(&key.key), "a key is never logged");

    program.terminate();
    assert!(program.wait_exit().await.success());
}

#[tokio::test]
async fn a_redis_of_another_operator_that_would_come_back_empty_is_named_in_the_log_once() {
    let redis = Redis::start_with(&[("appendonly", "no")]).await;
    let replica = redis.replica_with(&[]).await;
    redis.run(&["ACL", "SETUSER", "default", "-config"]).await;
    let url = redis.url();
    let variables = [("REDIS_URL", url.as_str()), ("DURABILITY", "replicated"), ("STREAM_SHARDS", "2")];
    let mut program = Program::start("ingest-api", &[&FREE_PORTS[..], &variables].concat());
    let warning = program.wait_for_line("has no append-only file").await;
    assert!(warning.contains("WARN") && warning.contains("promotes a replica"), "{warning}");
    program.wait_for_line("stream durability verified").await;
    assert_eq!(program.log().matches("has no append-only file").count(), 1, "one line for all shards");
    drop(replica);
}
