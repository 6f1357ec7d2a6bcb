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
async fn an_audit_names_lost_batches_until_they_are_reviewed_and_a_stream_that_went_back() {
    let mut installation = Installation::on_servers().await;
    installation.json(&["migrate"]).await;
    installation.json(&["project", "create", "shop", "--plan", "pro"]).await;
    let lose = "INSERT INTO lost_batches (batch_id, project_id, events, received_at, shard)
        VALUES (gen_random_uuid(), 1, 1200, '2026-11-26 19:12:00Z', 0), (gen_random_uuid(), 1, 34, '2026-11-26 19:59:59Z', 0);
        INSERT INTO stream_positions (shard, entry_ms, entry_seq) VALUES (0, 1795219200000, 4)";
    installation.postgres().connect().await.batch_execute(lose).await.unwrap();
    let bad = installation.run(&["audit"]).await;
    assert_eq!(bad.code, Some(1), "{bad:?}");
    for says in [
        "shop (1): lost, received in the hour from 2026-11-26T19:00:00Z: 1,234 events in 2 batches missing\n",
        "shard 0: the stream went back in time: it ends at 0-0 (1970-01-01T00:00:00Z), and entry 1795219200000-4 \
         (2026-11-21T00:00:00Z) is stored",
        "The audit DOES NOT HOLD.",
        "millrace audit --mark-reviewed",
    ] {
        assert!(bad.stdout.contains(says), "{says:?} is not in\n{}", bad.stdout);
    }
    let report = installation.run(&["audit", "--quick", "--json"]).await;
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report["shards_gone_back_in_time"], serde_json::json!([0]), "{report}");
    let lost = serde_json::json!([{
        "project": 1, "name": "shop", "hour": "2026-11-26T19:00:00Z", "batches": 2, "events": 1234, "difference": -1234,
        "reviewed": false,
    }]);
    assert_eq!(report["lost"], lost);

    let forget = "DELETE FROM stream_positions";
    installation.postgres().connect().await.batch_execute(forget).await.unwrap();
    let reviewed = installation.text(&["audit", "--mark-reviewed"]).await;
    assert!(reviewed.contains("2 batches missing (reviewed)\n"), "{reviewed}");
    assert_eq!(installation.json(&["audit"]).await["holds"], true, "they stay reviewed");
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

#[tokio::test]
async fn a_wrong_option_ends_with_2_and_is_named() {
    let wrong: &[(&[&str], &str)] = &[
        (
            &["key", "rotate", "7", "--overlap", "soon"],
            "--overlap <DURATION>': expected a duration such as 30m, 24h or 7d",
        ),
        (&["key", "rotate", "7", "--overlap", "91d"], "at most 90d"),
        (&["plan", "set", "pro"], "--requests-per-minute <N>|--burst <N>"),
        (&["plan", "set", "pro", "--burst", "0"], "--burst <N>': expected a whole number from 1 to 10000000"),
        (
            &["plan", "set", "pro", "--events-per-batch", "1001"],
            "--events-per-batch <N>': expected a whole number from 1 to 1000",
        ),
        (
            &["plan", "set", "pro", "--events-per-month", "lots"],
            "--events-per-month <N|unlimited>': expected unlimited",
        ),
        (&["usage", "--from", "yesterday"], "--from <WHEN>': expected a day (2026-11-21)"),
        (
            &["usage", "--from", "9999-12-31T23:59:59-23:59"],
            "--from <WHEN>': expected a day (2026-11-21), a time (2026-11-21T14:00:00Z)",
        ),
        (&["usage", "--window", "week"], "[possible values: hour, day, month]"),
        (&["key", "create", "p", "--scope", "admin"], "[possible values: write, read, full]"),
        (&["key", "create", "p", "--origin", "*"], "--origin <ORIGIN>': * is no origin"),
        (&["key", "create", "p", "--origin", "https://a.example/x"], "write https://a.example"),
        (&["project", "set", "p"], "--dedupe <DEDUPE>|--oldest <DURATION|none>"),
        (&["project", "set", "p", "--dedupe", "name"], "[possible values: id, id-and-timestamp]"),
        (
            &["project", "set", "p", "--oldest", "0"],
            "--oldest <DURATION|none>': expected none, or a duration",
        ),
        (
            &["project", "set", "p", "--newest", "soon"],
            "--newest <DURATION|none>': expected none, or a duration",
        ),
        (&["project", "set", "p", "--out-of-bounds", "drop"], "[possible values: receive-time, refuse]"),
    ];
    for (arguments, says) in wrong {
        let finished = Program::run("millrace", arguments, &[]).await;
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains(says), "{says:?} is not in {finished:?}");
    }
}

#[tokio::test]
async fn the_help_of_every_command_has_an_example() {
    for command in [
        "migrate",
        "project list",
        "project create",
        "project plan",
        "project set",
        "key list",
        "key create",
        "key rotate",
        "key revoke",
        "plan list",
        "plan set",
        "usage",
        "audit",
        "completions",
    ] {
        let arguments: Vec<_> = command.split(' ').chain(["--help"]).collect();
        let help = Program::run("millrace", &arguments, &[]).await.stdout;
        let example = help.split("Example").nth(1).unwrap_or_default();
        assert!(example.contains(&format!("  millrace {command}")), "{command}:\n{help}");
    }
}

#[tokio::test]
async fn completions_need_no_installation() {
    for shell in ["bash", "zsh", "fish"] {
        let finished = Program::run("millrace", &["completions", shell], &[]).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        for word in ["completions", "rotate", "overlap"] {
            assert!(finished.stdout.contains(word), "{shell} does not complete {word}");
        }
    }
}
