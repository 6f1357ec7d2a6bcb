//! Faults of the machine affect exactly the processes that were started with them: slow and failing disks,
//! clocks that jump, resource limits.

use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use testkit::{
    Deployment, DiskError, Launch, Postgres, Program, Redis, ResourceLimits, ServerOptions, Shim, eventually,
};

const DEADLINE: Duration = Duration::from_secs(30);
/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3_600);
const HOUR_S: i64 = 3_600;

async fn redis_on(shim: &Shim, settings: &[(&str, &str)]) -> Redis {
    Redis::start_options(ServerOptions { settings, variables: &shim.variables(), folder: None }).await
}

/// A field of `INFO persistence`.
async fn persistence(connection: &mut MultiplexedConnection, field: &str) -> u64 {
    let info: String = redis::cmd("INFO").arg("persistence").query_async(connection).await.unwrap();
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap().parse().unwrap()
}

async fn get(redis: &Redis, key: &str) -> Option<String> {
    redis.connect().await.get(key).await.unwrap()
}

/// The reason why Millrace refuses `everysec`: during a slow fsync, Redis acknowledges commands that it has
/// not even written to the file.
#[tokio::test]
async fn everysec_loses_acknowledged_writes_when_redis_dies_during_a_slow_fsync() {
    let shim = Shim::create();
    let mut redis = redis_on(&shim, &[("appendfsync", "everysec")]).await;
    let mut connection = redis.connect().await;
    shim.slow_fsync(NEVER);
    let () = connection.set("first", "acknowledged").await.unwrap();
    eventually(DEADLINE, "the slow fsync to begin", async || {
        persistence(&mut connection, "aof_pending_bio_fsync").await == 1
    })
    .await;
    eventually(DEADLINE, "an acknowledged write to be in memory only", async || {
        let () = connection.set("second", "acknowledged").await.unwrap();
        persistence(&mut connection, "aof_buffer_length").await > 0
    })
    .await;
    redis.kill().await;
    shim.slow_fsync(Duration::ZERO);
    redis.restart().await;
    assert_eq!(get(&redis, "first").await.as_deref(), Some("acknowledged"), "written before the slow fsync");
    assert_eq!(get(&redis, "second").await, None);
}

#[tokio::test]
async fn appendfsync_always_acknowledges_after_a_slow_fsync_and_loses_nothing() {
    let shim = Shim::create();
    let mut redis = redis_on(&shim, &[("latency-monitor-threshold", "1")]).await;
    let mut connection = redis.connect().await;
    shim.slow_fsync(Duration::from_millis(300));
    let () = connection.set("key", "value").await.unwrap();
    let latencies: Vec<(String, u64, u64, u64)> =
        redis::cmd("LATENCY").arg("LATEST").query_async(&mut connection).await.unwrap();
    let fsync = latencies.iter().find(|(event, ..)| event == "aof-fsync-always");
    assert!(fsync.is_some_and(|(.., slowest_ms)| *slowest_ms >= 300), "{latencies:?}");
    redis.kill().await;
    shim.slow_fsync(Duration::ZERO);
    redis.restart().await;
    assert_eq!(get(&redis, "key").await.as_deref(), Some("value"));
}

#[tokio::test]
async fn a_redis_on_a_failing_disk_ends_before_it_acknowledges() {
    for error in [DiskError::Full, DiskError::Broken] {
        let shim = Shim::create();
        let mut redis = redis_on(&shim, &[]).await;
        let mut connection = redis.connect().await;
        shim.fail_disk(Some(error));
        connection.set::<_, _, ()>("key", "value").await.expect_err("the disk failed");
        assert!(!redis.wait_exit().await.success(), "{error:?}");
        shim.fail_disk(None);
        redis.restart().await;
        assert_eq!(get(&redis, "key").await, None);
    }
}

#[tokio::test]
async fn a_redis_with_a_truncated_file_loads_the_complete_commands() {
    let mut redis = Redis::start().await;
    let mut connection = redis.connect().await;
    let () = connection.set("first", "complete").await.unwrap();
    let () = connection.set("second", "cut").await.unwrap();
    redis.kill().await;
    redis.truncate_aof_tail(1);
    redis.restart().await;
    assert_eq!(
        (get(&redis, "first").await.as_deref(), get(&redis, "second").await),
        (Some("complete"), None)
    );
    redis.restart_with(&[("maxmemory", "64mb")]).await;
    assert_eq!(get(&redis, "first").await.as_deref(), Some("complete"), "new settings, the same data");
}

#[tokio::test]
async fn the_time_of_redis_follows_the_clock_but_its_stream_ids_never_decrease() {
    let shim = Shim::create();
    let redis = redis_on(&shim, &[]).await;
    let mut connection = redis.connect().await;
    let mut ids = Vec::new();
    let mut times = Vec::new();
    for ahead_s in [0, HOUR_S, -HOUR_S] {
        shim.set_clock_ahead(ahead_s);
        let (seconds, _): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await.unwrap();
        let id: String =
            redis::cmd("XADD").arg(&["s", "*", "a", "1"]).query_async(&mut connection).await.unwrap();
        let (ms, sequence) = id.split_once('-').unwrap();
        ids.push((ms.parse::<u64>().unwrap(), sequence.parse::<u64>().unwrap()));
        times.push(seconds - ahead_s);
    }
    assert!(times.is_sorted() && times[2] - times[0] < HOUR_S, "times without the offset: {times:?}");
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(ids[1].0, ids[2].0, "the id does not change until the clock has caught up");
}

/// A blocking command in Redis ends by the wall clock, so a client needs its own timeout. New data still ends
/// the wait.
#[tokio::test]
async fn a_blocked_client_outlasts_its_timeout_when_the_clock_goes_back_but_new_data_wakes_it() {
    let shim = Shim::create();
    let redis = redis_on(&shim, &[]).await;
    let (mut waiter, mut other) = (redis.connect().await, redis.connect().await);
    let mut wait =
        tokio::spawn(async move { waiter.blpop::<_, Option<(String, String)>>("list", 1.0).await });
    eventually(DEADLINE, "the client to wait", async || {
        let info: String = redis::cmd("INFO").arg("clients").query_async(&mut other).await.unwrap();
        info.contains("blocked_clients:1")
    })
    .await;
    shim.set_clock_ahead(-HOUR_S);
    let unanswered = tokio::time::timeout(Duration::from_millis(1_500), &mut wait).await;
    assert!(unanswered.is_err(), "the timeout is now an hour away");
    let () = other.rpush("list", "arrived").await.unwrap();
    assert_eq!(wait.await.unwrap().unwrap().unwrap().1, "arrived");
}

#[tokio::test]
async fn a_postgres_recovers_from_the_death_of_a_session_and_from_an_immediate_stop() {
    let mut postgres = Postgres::start().await;
    let client = postgres.connect().await;
    client.batch_execute("CREATE TABLE numbers (number int); INSERT INTO numbers VALUES (1)").await.unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    postgres.kill_backend(pid);
    eventually(DEADLINE, "the client to notice", async || client.is_closed()).await;
    eventually(DEADLINE, "a second start", async || {
        postgres.log().matches("ready to accept connections").count() == 2
    })
    .await;
    postgres.stop_immediate().await;
    postgres.restart().await;
    postgres.restart_fast().await;
    let row = postgres.connect().await.query_one("SELECT count(*) FROM numbers", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_program_gets_its_limit_of_open_files_and_its_clock() {
    let (deployment, shim) = (Deployment::start().await, Shim::create());
    let (redis_url, database_url) = (deployment.redis.url(), deployment.postgres.url());
    let mut variables = vec![
        ("REDIS_URL", redis_url.as_str()),
        ("DATABASE_URL", database_url.as_str()),
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("METRICS_ADDR", "127.0.0.1:0"),
    ];
    variables.extend(shim.variables());
    let limits = ResourceLimits { open_files: Some(64), address_space_bytes: None };
    let mut program =
        Program::launch("ingest-api", &Launch { variables: &variables, limits, ..Launch::default() });
    let address = program.address().await;
    let date = async || testkit::http::get(address, "/healthz", &[]).await.header("date").unwrap().to_owned();
    let today = date().await;
    // Ahead, because the HTTP server caches the date for a second and would keep it while the clock is
    // behind.
    shim.set_clock_ahead(72 * HOUR_S);
    eventually(DEADLINE, "the date of the program to change", async || date().await[..16] != today[..16])
        .await;
    let mut connections = Vec::new();
    for _ in 0..128 {
        connections.extend(tokio::net::TcpStream::connect(address).await);
    }
    program.wait_for_line("Too many open files").await;
    assert!(program.open_files() >= 60);
    assert!(program.is_running());
}
