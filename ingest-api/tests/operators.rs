//! What operators learn about a stream that cannot be used: from the answers, from `/readyz` and from the
//! log.

mod stack;

use ingest_api::StatusPage;
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{KeyOptions, Operators, PolicyChange};
use stack::{PATIENCE, Server, Stack, batch, open_stream_at, problem};
use testkit::chaos::{ChaosProxy, Wire};
use testkit::http::{self, Answer};
use testkit::{Postgres, Program, Redis, eventually};

/// Sends one command to a Redis.
async fn run(redis: &Redis, command: &str) {
    let mut words = command.split(' ');
    let mut sent = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        sent.arg(word);
    });
    sent.query_async::<redis::Value>(&mut redis.connect().await).await.unwrap();
}

/// Waits until `/readyz` gives a reason with all of these parts for the stream.
async fn wait_for_reason(address: std::net::SocketAddr, parts: &[&str]) -> Answer {
    eventually(PATIENCE, &format!("/readyz to say {parts:?}"), async || {
        let answer = http::get(address, "/readyz", &[]).await;
        let stream = answer.json()["dependencies"]["stream"].as_str().unwrap_or_default().to_owned();
        let says_so = answer.status == 503 && parts.iter().all(|part| stream.contains(part));
        if says_so { Ok(answer) } else { Err(format!("{} {stream}", answer.status)) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_is_named_as_the_reason_until_it_has_room() {
    let stack = Stack::start().await;
    let ready = stack.get("/readyz").await.json();
    assert_eq!(ready["dependencies"], serde_json::json!({"stream": "ok", "store": "ok"}));
    run(&stack.redis, "CONFIG SET maxmemory 1000000").await;
    let refused = stack.post(batch(1)).await;
    assert_eq!((refused.status, problem(&refused).as_str()), (503, "backlog_full"));
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("memory or the disk of the stream is full"), "{detail}");
    wait_for_reason(stack.server.address, &["the memory of Redis is full", "OOM"]).await;
    run(&stack.redis, "CONFIG SET maxmemory 0").await;
    stack.ready().await;
    assert_eq!(stack.post(batch(1)).await.status, 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_that_leaves_the_old_redis_running_events_are_accepted_on_the_new_one() {
    let stack = Stack::start().await;
    let new = Redis::start().await;
    let proxy = ChaosProxy::start(([127, 0, 0, 1], stack.redis.port()).into(), Wire::Redis).await;
    let mut deps = stack.deps(StatusPage::Off);
    deps.stream = open_stream_at(format!("redis://{}/0", proxy.address()));
    let server = Server::start(deps).await;
    let bearer = stack.bearer();
    let post =
        async || http::post(server.address, "/v1/events", &[("authorization", &bearer)], batch(1)).await;
    eventually(PATIENCE, "the server behind the proxy to accept", async || {
        let answer = post().await;
        (answer.status == 202).then_some(()).ok_or(answer.status)
    })
    .await;

    run(&new, &format!("REPLICAOF 127.0.0.1 {}", stack.redis.port())).await;
    eventually(PATIENCE, "the replica to have the epoch", async || {
        let mut get = redis::cmd("GET");
        let epoch: Option<String> = get
            .arg("{s0}:epoch")
            .query_async(&mut new.connect().await)
            .await
            .map_err(|error| error.to_string())?;
        epoch.ok_or("not yet".to_owned())
    })
    .await;
    run(&new, "REPLICAOF NO ONE").await;
    // A primary with a replica is strict only with this.
    run(&new, "CONFIG SET min-replicas-to-write 1").await;
    run(&stack.redis, &format!("REPLICAOF 127.0.0.1 {}", new.port())).await;
    let refused = post().await;
    assert_eq!((refused.status, problem(&refused).as_str()), (503, "stream_unavailable"));
    assert!(!String::from_utf8_lossy(&refused.body).contains("too many events"), "{refused:?}");
    wait_for_reason(server.address, &["this Redis is a replica"]).await;

    proxy.lead_to(([127, 0, 0, 1], new.port()).into());
    eventually(PATIENCE, "the new Redis to be used", async || {
        let answer = post().await;
        (answer.status == 202).then_some(()).ok_or(format!("{answer:?}"))
    })
    .await;
    let ready = http::get(server.address, "/readyz", &[]).await;
    assert_eq!((ready.status, &ready.json()["dependencies"]["stream"]), (200, &"ok".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reasons_of_redis_are_in_readyz_and_in_the_log_once_for_each_change() {
    let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
    let options =
        PostgresOptions { source: postgres.config().into(), pool_size: 1, application: "test-ingest-api" };
    let store = PostgresStore::new(options);
    store.migrate().await.unwrap();
    let (_, key) = store
        .create_project("test", "enterprise", &PolicyChange::default(), &KeyOptions::default())
        .await
        .unwrap();
    run(&redis, "ACL SETUSER app on >word ~* +@all").await;
    let redis_url = format!("redis://app:word@127.0.0.1:{}/0", redis.port());
    let database_url = postgres.url();
    let mut program = Program::start(
        "ingest-api",
        &[
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("METRICS_ADDR", "127.0.0.1:0"),
            ("REDIS_URL", &redis_url),
            ("DATABASE_URL", &database_url),
        ],
    );
    let address = program.address().await;
    program.wait_for_line("stream epoch confirmed").await;
    let bearer = format!("Bearer {}", key.key);
    let post = async || http::post(address, "/v1/events", &[("authorization", &bearer)], batch(1)).await;
    let lines = |log: &str, text: &str| log.lines().filter(|line| line.contains(text)).count();
    for (rights, parts) in [
        ("+@all -info", &["cannot be checked", "'info' command"][..]),
        ("+@all -evalsha", &["lacks a right", "'evalsha'"]),
        ("+@all -xadd", &["NOPERM XADD {s0}:events"]),
        ("+@all resetpass >other", &["refused the user or the password", "WRONGPASS"]),
    ] {
        run(&redis, &format!("ACL SETUSER app {rights}")).await;
        run(&redis, "CLIENT KILL TYPE normal").await;
        let reason = parts.last().unwrap();
        eventually(PATIENCE, &format!("503 because of {rights}"), async || {
            let answer = post().await;
            (answer.status == 503).then_some(()).ok_or(answer.status)
        })
        .await;
        wait_for_reason(address, parts).await;
        program.wait_for_line(reason).await;
        for _ in 0..20 {
            assert_eq!(post().await.status, 503);
        }
        let log = program.log();
        assert!((1..=2).contains(&lines(&log, reason)), "{reason} in:\n{log}");
        run(&redis, "ACL SETUSER app resetpass >word +@all").await;
        eventually(PATIENCE, "the API to accept again", async || {
            let answer = post().await;
            (answer.status == 202).then_some(()).ok_or(format!("{answer:?}"))
        })
        .await;
    }
    let log = program.log();
    assert!(!log.contains("word@") && !log.contains(&key.key), "{log}");
}
