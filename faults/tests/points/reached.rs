//! Each failpoint is where its description says, and an ordinary build contains none.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use millrace_failpoint::Point;
use testkit::{Launch, Program, drill_build};
use tokio_postgres::Client;

use crate::stage::{QUICK, Stage};

const SIGKILL: i32 = 9;

/// The tables to which open transactions of workers have written.
const WRITTEN_TO: &str = "
    SELECT coalesce(array_agg(relation::regclass::text), '{}') AS t
      FROM pg_locks JOIN pg_stat_activity USING (pid)
     WHERE mode = 'RowExclusiveLock' AND starts_with(application_name, 'millrace-worker:')
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
// What another session sees of a transaction while the worker is stopped in it.
const ROWS_ARRIVED: &str = "exists(SELECT FROM pg_stat_progress_copy WHERE bytes_processed > 0)";
const ROWS_ALONE: &str = "'events' = ANY (t) AND NOT t && '{batches,usage_hourly}'";
const LEDGER_TOO: &str = "t @> '{events,batches}' AND NOT t && '{usage_hourly}'";
const LETTERS_TOO: &str = "t @> '{dead_letters,batches}' AND NOT t && '{usage_hourly}'";
const ALL_BUT_COMMIT: &str = "t @> '{events,batches,usage_hourly}'";
const NO_TRANSACTION: &str = "t = '{}'";

async fn holds(database: &Client, fact: &str) -> bool {
    let look = format!("SELECT {fact} FROM ({WRITTEN_TO}) w");
    database.query_one(&look, &[]).await.unwrap().get(0)
}

fn armed(point: Point, action: &str) -> String {
    format!("{}={action}", point.name())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stopped_at_a_point_has_done_what_the_point_says_and_no_more() {
    let stage = Stage::of_products().await;
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
        assert!(holds(&stage.database, fact).await, "{fact} at {}", point.name());
        let seen = (stage.entries().await, stage.count("batches").await - before);
        assert_eq!(seen, (entries, committed), "entries and ledger rows at {}", point.name());
        worker.kill().await;
        stage.drain().await;
    }
    stage.millrace(&["audit"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_killed_at_any_of_its_points_sends_no_answer() {
    let stage = Stage::of_products().await;
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
async fn a_worker_killed_at_any_of_its_points_loses_nothing() {
    let stage = Stage::of_products().await;
    let (_api, address) = stage.api(&[]).await;
    // The others are reached in answers to operators: drills kill there.
    let of_workers = ["lane::", "store::", "upkeep::"];
    let points = Point::ALL.into_iter();
    let points = points.filter(|point| of_workers.iter().any(|part| point.name().starts_with(part)));
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
async fn a_point_can_act_at_a_later_pass_and_request_a_graceful_stop() {
    let stage = Stage::of_products().await;
    let (mut api, address) = stage.api(&[("FAILPOINTS", "api::after_admission=2*off->1*return(term)")]).await;
    for _ in 0..3 {
        assert_eq!(
            stage.post(address).await,
            Some(202),
            "a stopping API answers the requests that it has begun"
        );
    }
    assert_eq!(api.wait_exit().await.code(), Some(0));
    assert_eq!(api.log().matches("failpoint api::after_admission: SIGTERM").count(), 1);
    assert_eq!(stage.entries().await, 3);
}

#[tokio::test]
async fn a_program_with_a_misspelt_failpoint_does_not_start() {
    let profile = drill_build();
    for program in ["ingest-api", "stream-worker"] {
        for (variable, value) in [
            ("FAILPOINTS", "store::nowhere=return(kill)"),
            ("FAILPOINTS", "store::after_copy"),
            ("FAILPOINTS", "store::after_copy=return(explode)"),
            ("FAILPOINTS", "store::after_copy=explode"),
        ] {
            let variables = [(variable, value)];
            let launch = Launch { profile: Some(profile), variables: &variables, ..Launch::default() };
            let mut started = Program::launch(program, &launch);
            let exit = started.wait_exit().await;
            started.wait_for_line(&format!("{variable}={value:?}")).await;
            assert_eq!(exit.code(), Some(2), "{program}, {variable}={value}: {}", started.log());
        }
    }
}

#[test]
fn an_ordinary_build_contains_no_failpoints_and_no_build_contains_mutants() {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(Path::parent).expect("tests lie in deps, in the profile's folder");
    let names = Point::ALL.map(Point::name);
    for (folder, is_for_drills) in [(folder, false), (&folder.with_file_name(drill_build()), true)] {
        for program in ["ingest-api", "stream-worker", "millrace"] {
            let bytes = std::fs::read(folder.join(program)).expect("run `cargo build --workspace` first");
            let contains = |word: &str| memchr::memmem::find(&bytes, word.as_bytes()).is_some();
            let place = format!("{program} in {}", folder.display());
            for word in names.iter().chain(&["FAILPOINTS"]) {
                assert_eq!(contains(word), is_for_drills, "{word:?} in {place}");
            }
            assert!(!contains("MILLRACE_MUTANT"), "mutants in {place}");
        }
    }
}
