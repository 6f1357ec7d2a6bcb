//! The faults of the machine are felt by those that were given them: slow and full disks, clocks that jump, limits.

use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use testkit::{
    DiskError, Launch, Postgres, Program, Redis, ResourceLimits, ServerOptions, Shim, Tmpfs, eventually,
};

const DEADLINE: Duration = Duration::from_secs(30);
/// Longer than any test runs: what takes this long has not happened.
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

/// Why Millrace refuses to run on `everysec`: while one fsync is slow, Redis acknowledges what it has not even written.
#[tokio::test]
async fn everysec_loses_what_it_acknowledged_when_its_process_dies_during_a_slow_fsync() {
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
    assert_eq!(
        get(&redis, "first").await.as_deref(),
        Some("acknowledged"),
        "written before the fsync was slow"
    );
    assert_eq!(get(&redis, "second").await, None);
}

#[tokio::test]
async fn always_acknowledges_after_the_slow_fsync_and_loses_nothing() {
    let shim = Shim::create();
    let mut redis = redis_on(&shim, &[("latency-monitor-threshold", "1")]).await;
    let mut connection = redis.connect().await;
    shim.slow_fsync(Duration::from_millis(300));
    let () = connection.set("promise", "kept").await.unwrap();
    let latencies: Vec<(String, u64, u64, u64)> =
        redis::cmd("LATENCY").arg("LATEST").query_async(&mut connection).await.unwrap();
    let fsync = latencies.iter().find(|(event, ..)| event == "aof-fsync-always");
    assert!(fsync.is_some_and(|(.., slowest_ms)| *slowest_ms >= 300), "{latencies:?}");
    redis.kill().await;
    shim.slow_fsync(Duration::ZERO);
    redis.restart().await;
    assert_eq!(get(&redis, "promise").await.as_deref(), Some("kept"));
}

#[tokio::test]
async fn a_redis_whose_disk_fails_ends_before_it_acknowledges() {
    for error in [DiskError::Full, DiskError::Broken] {
        let shim = Shim::create();
        let mut redis = redis_on(&shim, &[]).await;
        let mut connection = redis.connect().await;
        shim.fail_disk(Some(error));
        connection.set::<_, _, ()>("promise", "made").await.expect_err("the disk failed");
        assert!(!redis.wait_exit().await.success(), "{error:?}");
        shim.fail_disk(None);
        redis.restart().await;
        assert_eq!(get(&redis, "promise").await, None);
    }
}

#[tokio::test]
async fn a_redis_on_a_full_tmpfs_ends_before_it_acknowledges_and_starts_again_once_there_is_room() {
    let disk = match Tmpfs::mount(1 << 20) {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("SKIPPED: {reason}"),
    };
    let folder = disk.path();
    let mut redis =
        Redis::start_options(ServerOptions { folder: Some(&folder), ..ServerOptions::default() }).await;
    let mut connection = redis.connect().await;
    let mut acknowledged = 0_u32;
    while connection.set::<_, _, ()>(acknowledged, vec![b'x'; 64 << 10]).await.is_ok() {
        acknowledged += 1;
    }
    assert!(acknowledged > 0 && !redis.wait_exit().await.success(), "{}", redis.log());
    assert!(redis.log().contains("AOF write error"), "{}", redis.log());
    disk.resize(8 << 20);
    redis.restart().await;
    let kept: u32 = redis::cmd("DBSIZE").query_async(&mut redis.connect().await).await.unwrap();
    assert_eq!(kept, acknowledged, "all of what was acknowledged, and no more");
}

#[tokio::test]
async fn a_redis_with_a_cut_tail_loads_what_is_whole() {
    let mut redis = Redis::start().await;
    let mut connection = redis.connect().await;
    let () = connection.set("first", "whole").await.unwrap();
    let () = connection.set("second", "cut").await.unwrap();
    redis.kill().await;
    redis.truncate_aof_tail(1);
    redis.restart().await;
    assert_eq!((get(&redis, "first").await.as_deref(), get(&redis, "second").await), (Some("whole"), None));
    redis.restart_with(&[("maxmemory", "64mb")]).await;
    assert_eq!(get(&redis, "first").await.as_deref(), Some("whole"), "other settings, the same data");
}

#[tokio::test]
async fn a_redis_whose_clock_jumps_shows_it_and_its_stream_ids_never_go_back() {
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
        let (ms, place) = id.split_once('-').unwrap();
        ids.push((ms.parse::<u64>().unwrap(), place.parse::<u64>().unwrap()));
        times.push(seconds - ahead_s);
    }
    assert!(times.is_sorted() && times[2] - times[0] < HOUR_S, "true times: {times:?}");
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(ids[1].0, ids[2].0, "the id stands still until the clock has caught up");
}

/// A wait in Redis ends by the wall clock, so whoever waits needs a timeout of its own; an arrival still ends it.
#[tokio::test]
async fn a_wait_in_redis_outlasts_its_timeout_when_the_clock_goes_back_but_not_an_arrival() {
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
    assert!(unanswered.is_err(), "its end lies an hour ahead");
    let () = other.rpush("list", "arrived").await.unwrap();
    assert_eq!(wait.await.unwrap().unwrap().unwrap().1, "arrived");
}

#[tokio::test]
async fn a_postgres_recovers_from_the_death_of_a_session_and_from_an_immediate_stop() {
    let mut postgres = Postgres::start().await;
    let client = postgres.connect().await;
    client
        .batch_execute("CREATE TABLE promise (kept bool); INSERT INTO promise VALUES (true)")
        .await
        .unwrap();
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
    let row = postgres.connect().await.query_one("SELECT count(*) FROM promise", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_postgres_refuses_rows_for_a_full_tablespace_and_takes_them_once_there_is_room() {
    let disk = match Tmpfs::mount(1 << 20) {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("SKIPPED: {reason}"),
    };
    let postgres = Postgres::start().await;
    postgres.create_tablespace("small", &disk.path()).await;
    let client = postgres.connect().await;
    client.batch_execute("CREATE TABLE promise (text text) TABLESPACE small").await.unwrap();
    let insert = "INSERT INTO promise SELECT repeat('x', 1000) FROM generate_series(1, 2000)";
    let error = client.batch_execute(insert).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "53100", "disk_full");
    disk.resize(16 << 20);
    client.batch_execute(insert).await.unwrap();
}

#[tokio::test]
async fn a_postgres_can_have_a_machine_and_a_disk_of_its_own() {
    let disk = match Tmpfs::mount(256 << 20) {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("SKIPPED: {reason}"),
    };
    let (shim, folder) = (Shim::create(), disk.path());
    let options =
        ServerOptions { variables: &shim.variables(), folder: Some(&folder), ..ServerOptions::default() };
    let postgres = Postgres::start_options(options).await;
    shim.set_clock_ahead(48 * HOUR_S);
    let row =
        postgres.connect().await.query_one("SELECT extract(epoch FROM now())::bigint", &[]).await.unwrap();
    let true_now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(row.get::<_, i64>(0) > i64::try_from(true_now).unwrap() + 47 * HOUR_S);
    assert!(folder.join("postgres-data").is_dir());
}

#[tokio::test]
async fn a_program_has_the_files_it_was_limited_to_and_the_clock_it_was_given() {
    let (redis, postgres, shim) = (Redis::start().await, Postgres::start().await, Shim::create());
    let (redis_url, database_url) = (redis.url(), postgres.url());
    let servers = [("REDIS_URL", redis_url.as_str()), ("DATABASE_URL", database_url.as_str())];
    let migrated = Program::run("millrace", &["migrate"], &servers).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let mut variables = servers.to_vec();
    variables.extend([("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")]);
    variables.extend(shim.variables());
    let limits = ResourceLimits { open_files: Some(64), address_space_bytes: None };
    let mut program =
        Program::launch("ingest-api", &Launch { variables: &variables, limits, ..Launch::default() });
    let address = program.address().await;
    let date = async || testkit::http::get(address, "/healthz", &[]).await.header("date").unwrap().to_owned();
    let today = date().await;
    // Ahead: an HTTP server keeps the date it has told until a second later.
    shim.set_clock_ahead(72 * HOUR_S);
    eventually(DEADLINE, "the program to see another day", async || date().await[..16] != today[..16]).await;
    let mut connections = Vec::new();
    for _ in 0..128 {
        connections.extend(tokio::net::TcpStream::connect(address).await);
    }
    program.wait_for_line("Too many open files").await;
    assert!(program.open_files() >= 60);
    assert!(program.is_running());
}
