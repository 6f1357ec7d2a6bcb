//! The commands as an operator uses them: their output, and their exit codes.

mod installation;

use installation::{Installation, assert_fails};
use serde_json::Value;
use testkit::Program;

/// Nothing listens on this port, so connections to it are refused immediately.
const UNREACHABLE: &str = "127.0.0.1:1";

#[tokio::test]
async fn wrong_usage_ends_with_2_and_names_what_is_right() {
    let unknown = Program::run("millrace", &["projects"], &[]).await;
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    let help = Program::run("millrace", &["--help"], &[]).await;
    assert!(help.stdout.contains("millrace project create shop --plan pro"), "{help:?}");
    let bad = Program::run("millrace", &["audit"], &[("STREAM_SHARDS", "none")]).await;
    assert_fails(&bad, 2, r#"STREAM_SHARDS="none": expected a whole number from 1 to 256"#);
    let short = ["project", "create", "shop", "--plan", "pro", "--key", "short"];
    let nowhere = [("DATABASE_URL", "postgres://127.0.0.1:1/x"), ("REDIS_URL", "redis://127.0.0.1:1/0")];
    assert_fails(
        &Program::run("millrace", &short, &nowhere).await,
        2,
        "--key: a key must have 16 to 200 characters",
    );
}

#[tokio::test]
async fn servers_that_cannot_be_reached_end_with_3_and_name_the_setting() {
    let database_url = format!("postgres://postgres@{UNREACHABLE}/millrace");
    let redis_url = format!("redis://{UNREACHABLE}/0");
    let settings = [("DATABASE_URL", database_url.as_str()), ("REDIS_URL", redis_url.as_str())];
    // A command ignores the settings of the service.
    let with_service = [&settings[..], &[("WORKER_LANES", "none")]].concat();
    assert_fails(&Program::run("millrace", &["migrate"], &with_service).await, 3, "DATABASE_URL");
    assert_fails(&Program::run("millrace", &["audit"], &settings).await, 3, "REDIS_URL");
}

#[tokio::test]
async fn projects_and_keys_are_created_and_revoked_and_refusals_end_with_1() {
    let mut installation = Installation::on_servers().await;
    let early = installation.run(&["project", "create", "shop", "--plan", "pro"]).await;
    assert_fails(&early, 1, "millrace migrate");

    let applied = installation.json(&["migrate"]).await;
    assert!(!applied["applied"].as_array().unwrap().is_empty(), "{applied}");
    let again = installation.json(&["migrate"]).await;
    assert_eq!(again["applied"], serde_json::json!([]), "a second time changes nothing");

    let project = installation.json(&["project", "create", "shop", "--plan", "pro"]).await;
    assert!(project["key"].as_str().unwrap().starts_with("mk_"), "{project}");
    assert_eq!(project["signing_secret"], Value::Null);
    let taken = installation.run(&["project", "create", "shop", "--plan", "pro"]).await;
    assert_fails(&taken, 1, "shop");
    let no_plan = installation.run(&["project", "create", "other", "--plan", "golden"]).await;
    assert_fails(&no_plan, 1, "golden");

    let chosen = "a-key-of-my-own-choice";
    let signed = installation.json(&["key", "create", "shop", "--key", chosen, "--signed"]).await;
    assert_eq!(signed["key"], chosen);
    assert!(signed["signing_secret"].as_str().unwrap().starts_with("whsec_"), "{signed}");
    assert_fails(&installation.run(&["key", "create", "absent"]).await, 1, "absent");

    let key_id = signed["key_id"].to_string();
    installation.json(&["key", "revoke", &key_id]).await;
    assert_fails(&installation.run(&["key", "revoke", &key_id]).await, 1, "no live key");
    let live = "SELECT count(*) FROM api_keys WHERE revoked_at IS NULL";
    let row = installation.postgres().connect().await.query_one(live, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn an_audit_holds_until_an_event_is_metered_that_was_not_accepted() {
    let mut installation = Installation::on_servers().await;
    installation.json(&["migrate"]).await;
    installation.json(&["project", "create", "shop", "--plan", "pro"]).await;
    let good = installation.json(&["audit"]).await;
    assert_eq!((&good["holds"], &good["exact"]), (&Value::Bool(true), &Value::Bool(true)), "{good}");

    let invent = "INSERT INTO usage_hourly (project_id, hour, events)
        SELECT project_id, date_trunc('hour', now()), 1200 FROM projects";
    installation.postgres().connect().await.batch_execute(invent).await.unwrap();
    let bad = installation.run(&["audit"]).await;
    assert_eq!(bad.code, Some(1), "{bad:?}");
    for says in [
        "shop (1): accepted = stored + duplicate + dead + pending does not hold: expected 0, found 1,200: 1,200 too many",
        "events metered as stored = rows in events does not hold: expected 1,200, found 0: 1,200 missing",
        "The audit DOES NOT HOLD.",
    ] {
        assert!(bad.stdout.contains(says), "{says:?} is not in\n{}", bad.stdout);
    }
    let report = installation.run(&["audit", "--quick", "--json"]).await;
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!((&report["holds"], &report["rows_counted"]), (&Value::Bool(false), &Value::Bool(false)));
}

#[tokio::test]
async fn commands_count_one_thing_in_the_singular_and_list_an_origin_once() {
    let installation = Installation::on_servers().await;
    installation.json(&["migrate"]).await;
    let one = ["--requests-per-minute", "1", "--events-per-month", "1"];
    let plan = installation.text(&[&["plan", "set", "tiny"][..], &one].concat()).await;
    assert!(plan.contains("1 request per minute, 1 in a burst; 1 event per month"), "{plan}");
    let origins = ["--origin", "https://a.example", "--origin", "https://A.example:443/"];
    let project =
        installation.text(&[&["project", "create", "shop", "--plan", "tiny"][..], &origins].concat()).await;
    assert!(
        project
            .contains("\nThis key sends events and reads reports, from pages of https://a.example only.\n"),
        "{project}"
    );
    for name in [" ", " shop", "shop\t"] {
        installation.fails(&["project", "create", name, "--plan", "tiny"], 1, "visible characters").await;
    }
}

#[tokio::test]
async fn an_audit_with_the_wrong_number_of_shards_names_the_right_one() {
    let mut installation = Installation::on_servers().await;
    installation.json(&["migrate"]).await;
    let record =
        "INSERT INTO stream_epochs (shard, epoch) VALUES (0, gen_random_uuid()), (1, gen_random_uuid())";
    installation.postgres().connect().await.batch_execute(record).await.unwrap();
    let refused = installation.run(&["audit"]).await;
    assert_fails(&refused, 2, "STREAM_SHARDS=1: this installation has 2 on record; set STREAM_SHARDS=2");
    // With the right number it runs, and reports that this Redis has no epoch.
    let right = installation.run(&["audit", "--stream-shards", "2"]).await;
    assert_eq!(right.code, Some(1), "{right:?}");
}
