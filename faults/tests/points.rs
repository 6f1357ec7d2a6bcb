//! The points at which a process can be made to die lie where they say, and an ordinary build knows nothing of them.

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use shared::failpoint::Point;
use shared::mutant::Mutant;
use testkit::http::HttpClient;
use testkit::{Postgres, Launch, Program, Redis, drill_build, eventually};
use tokio_postgres::Client;

const SOON: Duration = Duration::from_secs(60);
const KEY: &str = "points-test-key-1";
const SIGKILL: i32 = 9;
/// Settings of workers that take over and keep house soon, so that nobody has to wait for it.
const QUICK: [(&str, &str); 2] = [("TAKEOVER_IDLE_MS", "300"), ("UPKEEP_INTERVAL_MS", "300")];

/// The tables that open transactions of workers have written to.
const WRITTEN_TO: &str = "
    SELECT coalesce(array_agg(relation::regclass::text), '{}') AS t
      FROM pg_locks JOIN pg_stat_activity USING (pid)
     WHERE mode = 'RowExclusiveLock' AND starts_with(application_name, 'millrace-worker:')
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
/// What another session can see of a transaction while the worker is stopped in it.
const ROWS_ARRIVED: &str = "exists(SELECT FROM pg_stat_progress_copy WHERE bytes_processed > 0)";
const ROWS_ALONE: &str = "'events' = ANY (t) AND NOT t && '{batches,usage_hourly}'";
const LEDGER_TOO: &str = "t @> '{events,batches}' AND NOT t && '{usage_hourly}'";
const LETTERS_TOO: &str = "t @> '{dead_letters,batches}' AND NOT t && '{usage_hourly}'";
const ALL_BUT_COMMIT: &str = "t @> '{events,batches,usage_hourly}'";
const NO_TRANSACTION: &str = "t = '{}'";

/// Servers with one project, and programs built for drills.
struct Stage {
    redis: Redis,
    postgres: Postgres,
    database: Client,
    profile: &'static str,
    posted: Cell<u32>,
}

impl Stage {
    async fn set() -> Self {
        let profile = drill_build();
        let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
        let database = postgres.connect().await;
        let stage = Self { redis, postgres, database, profile, posted: Cell::default() };
        stage.millrace(&["migrate"]).await;
        stage.millrace(&["project", "create", "shop", "--plan", "enterprise", "--key", KEY]).await;
        stage
    }

    async fn millrace(&self, arguments: &[&str]) {
        let (redis, database) = (self.redis.url(), self.postgres.url());
        let backends = [("REDIS_URL", &*redis), ("DATABASE_URL", &*database)];
        let finished = Program::run("millrace", arguments, &backends).await;
        assert_eq!(finished.code, Some(0), "millrace {arguments:?}: {finished:?}");
    }

    fn start(&self, name: &str, more: &[(&str, &str)]) -> Program {
        let (redis, database) = (self.redis.url(), self.postgres.url());
        let usual = [
            ("REDIS_URL", &*redis),
            ("DATABASE_URL", &*database),
            ("METRICS_ADDR", "127.0.0.1:0"),
            ("WORKER_LANES", "1"),
        ];
        Program::launch(name, &Launch { profile: Some(self.profile), variables: &[&usual, more].concat(), ..Launch::default() })
    }

    async fn api(&self, more: &[(&str, &str)]) -> (Program, SocketAddr) {
        let mut program = self.start("ingest-api", &[&[("LISTEN_ADDR", "127.0.0.1:0")], more].concat());
        let address = program.address().await;
        eventually(SOON, "the API to be ready", async || {
            testkit::http::get(address, "/readyz", &[]).await.status == 200
        })
        .await;
        (program, address)
    }

    async fn worker(&self, more: &[(&str, &str)]) -> Program {
        let mut program = self.start("stream-worker", &[&QUICK, more].concat());
        program.wait_for_line("lanes are draining").await;
        program
    }

    /// Posts one event of its own. `None` when no answer comes.
    async fn post(&self, api: SocketAddr) -> Option<u16> {
        self.posted.set(self.posted.get() + 1);
        let id = format!("event-{}", self.posted.get());
        self.post_again(api, &id).await
    }

    async fn post_again(&self, api: SocketAddr, id: &str) -> Option<u16> {
        let event = json!({"id": id, "name": "tested", "timestamp": "2026-11-21T08:00:00Z"});
        let body = json!({"events": [event]}).to_string();
        let authorization = format!("Bearer {KEY}");
        let mut client = HttpClient::new(api);
        let posted = client.post("/v1/events", &[("authorization", &authorization)], body).await;
        posted.ok().map(|answer| answer.status)
    }

    /// Puts an entry into the stream that can only become a dead letter.
    async fn force_damaged_entry(&self) {
        let mut command = redis::cmd("XADD");
        command.arg("{s0}:events").arg("*").arg("v").arg("from the future");
        command.exec_async(&mut self.redis.connect().await).await.unwrap();
    }

    /// Entries in the stream.
    async fn entries(&self) -> u64 {
        let mut command = redis::cmd("XLEN");
        command.arg("{s0}:events").query_async(&mut self.redis.connect().await).await.unwrap()
    }

    async fn count(&self, table: &str) -> i64 {
        self.database.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }

    async fn holds(&self, fact: &str) -> bool {
        let look = format!("SELECT {fact} FROM ({WRITTEN_TO}) w");
        self.database.query_one(&look, &[]).await.unwrap().get(0)
    }

    /// Lets a worker to which nothing happens finish what others left.
    async fn drain(&self) {
        let _worker = self.worker(&[]).await;
        eventually(SOON, "the backlog to drain", async || self.entries().await == 0).await;
    }
}

fn armed(point: Point, action: &str) -> String {
    format!("{}={action}", point.name())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_at_a_point_has_done_what_the_point_says_and_no_more() {
    let stage = Stage::set().await;
    let (_api, address) = stage.api(&[]).await;
    for (point, fact, entries, committed) in [
        (Point::AfterRead, NO_TRANSACTION, 1, 0),
        (Point::InsideCopy, ROWS_ARRIVED, 1, 0),
        (Point::InsideCopy, ROWS_ALONE, 1, 0),
        (Point::AfterCopy, ROWS_ALONE, 1, 0),
        (Point::AfterLedger, LEDGER_TOO, 1, 0),
        (Point::DeadLetterWritten, LETTERS_TOO, 1, 0),
        (Point::BeforeCommit, ALL_BUT_COMMIT, 1, 0),
        (Point::AfterCommit, NO_TRANSACTION, 1, 1),
        (Point::AfterSettle, NO_TRANSACTION, 0, 1),
    ] {
        let before = stage.count("batches").await;
        let mut worker = stage.worker(&[("FAILPOINTS", &armed(point, "1*return(stop)"))]).await;
        if point == Point::DeadLetterWritten {
            stage.force_damaged_entry().await;
        } else {
            assert_eq!(stage.post(address).await, Some(202));
        }
        worker.wait_for_line(&format!("failpoint {}: SIGSTOP", point.name())).await;
        assert!(stage.holds(fact).await, "{fact} at {}", point.name());
        let seen = (stage.entries().await, stage.count("batches").await - before);
        assert_eq!(seen, (entries, committed), "entries and ledger rows at {}", point.name());
        worker.kill().await;
        stage.drain().await;
    }
    stage.millrace(&["audit"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_point_of_the_api_a_process_dies_when_it_is_told_to_and_leaves_no_answer() {
    let stage = Stage::set().await;
    let points = [Point::AfterAuth, Point::AfterValidation, Point::BeforeAdmission, Point::AfterAdmission];
    for point in points {
        let (mut api, address) = stage.api(&[("FAILPOINTS", &armed(point, "return(kill)"))]).await;
        assert_eq!(stage.post(address).await, None, "an answer at {}", point.name());
        killed_at(&mut api, point).await;
        let is_admitted = point == Point::AfterAdmission;
        assert_eq!(stage.entries().await, u64::from(is_admitted), "entries at {}", point.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_point_of_a_worker_it_dies_when_it_is_told_to_and_nothing_is_lost() {
    let stage = Stage::set().await;
    let (_api, address) = stage.api(&[]).await;
    let points = Point::ALL.into_iter().filter(|point| !point.name().starts_with("api::"));
    for (point, stored) in points.zip(1..) {
        assert_eq!(stage.post(address).await, Some(202));
        let armed = armed(point, "return(kill)");
        let mut variables = [&QUICK[..], &[("FAILPOINTS", &*armed)]].concat();
        match point {
            Point::DeadLetterWritten => stage.force_damaged_entry().await,
            Point::PartitionMade => drop_latest_ledger_day(&stage.database).await,
            Point::PartitionDetached => variables.push(("RETENTION_DAYS", "3")),
            _ => {}
        }
        let mut worker = stage.start("stream-worker", &variables);
        killed_at(&mut worker, point).await;
        stage.drain().await;
        assert_eq!(stage.count("events").await, stored, "events after a death at {}", point.name());
    }
    stage.millrace(&["audit"]).await;
}

async fn killed_at(program: &mut Program, point: Point) {
    let exit = program.wait_exit().await;
    assert_eq!(exit.signal(), Some(SIGKILL), "{}: {exit}", point.name());
    program.wait_for_line(&format!("failpoint {}: SIGKILL", point.name())).await;
}

async fn drop_latest_ledger_day(database: &Client) {
    let latest =
        "SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'batches'::regclass";
    let day: String = database.query_one(latest, &[]).await.unwrap().get(0);
    database.batch_execute(&format!("DROP TABLE {day}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_can_act_later_and_ask_for_an_orderly_end() {
    let stage = Stage::set().await;
    let (mut api, address) = stage.api(&[("FAILPOINTS", "api::after_admission=2*off->1*return(term)")]).await;
    for _ in 0..3 {
        assert_eq!(stage.post(address).await, Some(202), "who is asked to end answers what it has begun");
    }
    assert_eq!(api.wait_exit().await.code(), Some(0));
    assert_eq!(api.log().matches("failpoint api::after_admission: SIGTERM").count(), 1);
    assert_eq!(stage.entries().await, 3);
}

#[tokio::test]
async fn a_drill_that_is_misspelt_does_not_start() {
    let profile = drill_build();
    for program in ["ingest-api", "stream-worker"] {
        for (variable, value) in [
            ("FAILPOINTS", "store::nowhere=return(kill)"),
            ("FAILPOINTS", "store::after_copy"),
            ("FAILPOINTS", "store::after_copy=return(explode)"),
            ("FAILPOINTS", "store::after_copy=explode"),
            ("MILLRACE_MUTANT", "unheard-of"),
        ] {
            let mut started = Program::launch(program, &Launch { profile: Some(profile), variables: &[(variable, value)], ..Launch::default() });
            let exit = started.wait_exit().await;
            started.wait_for_line(&format!("{variable}={value:?}")).await;
            assert_eq!(exit.code(), Some(2), "{program}, {variable}={value}: {}", started.log());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_passes_for_right_while_nothing_goes_wrong() {
    let stage = Stage::set().await;
    for (mutant, stored) in Mutant::ALL.into_iter().zip(1..) {
        // Without an epoch the counters are rebuilt, so that every script has its turn.
        redis::cmd("DEL").arg("{s0}:epoch").exec_async(&mut stage.redis.connect().await).await.unwrap();
        let chosen = [("MILLRACE_MUTANT", mutant.name())];
        let (mut api, address) = stage.api(&chosen).await;
        api.wait_for_line("built for drills").await;
        let mut worker = stage.worker(&chosen).await;
        assert_eq!(stage.post(address).await, Some(202), "{}", mutant.name());
        eventually(SOON, "an event", async || stage.count("events").await == stored).await;
        eventually(SOON, "the backlog to drain", async || stage.entries().await == 0).await;
        worker.terminate();
        assert_eq!(worker.wait_exit().await.code(), Some(0), "{}", mutant.name());
        let logs = [api.log(), worker.log()].concat();
        assert!(!logs.contains("panicked"), "{}: {logs}", mutant.name());
    }
    stage.millrace(&["audit"]).await;
}

#[test]
fn an_ordinary_build_knows_no_points_and_no_mutants() {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(Path::parent).expect("tests lie in deps, in the profile's folder");
    let names = Point::ALL.map(Point::name);
    let words = ["MILLRACE_MUTANT", "FAILPOINTS", "counter-outside-the-transaction", "built for drills"];
    for program in ["ingest-api", "stream-worker", "millrace"] {
        let bytes = std::fs::read(folder.join(program)).expect("run `cargo build --workspace` first");
        for word in names.iter().chain(&words) {
            let is_there = memchr::memmem::find(&bytes, word.as_bytes()).is_some();
            assert!(!is_there, "{program} contains {word:?}");
        }
    }
}
