//! Events that become dead letters and are redriven after the cause is fixed.

use serde_json::{Value, json};
use testkit::http::{HttpClient, get};

use crate::stack::{KEY, Stack, event, post};

const CHECK: &str = "ALTER TABLE events ADD CONSTRAINT no_refunds CHECK (name <> 'refund')";
const NO_CHECK: &str = "ALTER TABLE events DROP CONSTRAINT no_refunds";

fn refund(id: &str) -> Value {
    json!({"id": id, "name": "refund", "timestamp": "2026-11-21T08:00:00Z", "properties": {"amount": 19.90}})
}

/// Runs `millrace dead-letters`, which must exit with this code, and returns its JSON.
async fn dead_letters(stack: &Stack, arguments: &[&str], code: i32) -> Value {
    let finished = stack.try_millrace(&[&["dead-letters", "--json"], arguments].concat()).await;
    assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// The events that the stream has charged to the project this month.
async fn used(stack: &Stack) -> i64 {
    let mut redis = stack.servers.redis.connect().await;
    redis::cmd("HGET").arg("{s0}:project:1").arg("used").query_async(&mut redis).await.unwrap()
}

/// Posts ten events, four of which become dead letters, and waits until the stream is drained. Returns the
/// batch id.
async fn post_with_four_dead(stack: &Stack, address: std::net::SocketAddr) -> String {
    stack.database.batch_execute(CHECK).await.unwrap();
    let mut events: Vec<_> = (0..6).map(|id| event(&format!("good {id}"))).collect();
    events.extend(["a", "b", "c", "d"].map(refund));
    let mut client = HttpClient::new(address);
    let answer = post(&mut client, KEY, &events).await.unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    stack.settle_and_audit().await;
    answer.json()["batch_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_and_stored_once_when_redriven_after_a_fix() {
    let stack = Stack::start().await;
    let ((_api, address), _worker) = (stack.api().await, stack.worker().await);
    let batch = post_with_four_dead(&stack, address).await;
    assert_eq!((stack.events().await, used(&stack).await), (6, 6), "dead events are refunded");

    let list = dead_letters(&stack, &["list", "--project", "shop", "--since", "1h", "--limit", "3"], 0).await;
    assert_eq!(list["letters"].as_array().unwrap().len(), 3);
    assert_eq!((&list["total"]["letters"], &list["reasons"][0]["letters"]), (&json!(4), &json!(4)), "{list}");
    assert_eq!(list["letters"][0]["sqlstate"], "23514");
    let number = list["letters"][0]["id"].to_string();
    let letter = dead_letters(&stack, &["show", &number], 0).await;
    assert_eq!((&letter["batch_id"], &letter["project"]), (&json!(batch), &json!("shop")), "{letter}");
    assert_eq!(letter["contents"][0]["name"], "refund");
    assert_eq!(letter["contents"][0]["properties"], json!({"amount": 19.90}));

    // Before the fix, the database refuses them again.
    let refused = dead_letters(&stack, &["redrive", "--id", &number], 1).await;
    assert_eq!((&refused["stored"], &refused["refused"]), (&json!(0), &json!(1)), "{refused}");
    stack.settle_and_audit().await;
    stack.database.batch_execute(NO_CHECK).await.unwrap();
    let dry_run = dead_letters(&stack, &["redrive", "--all", "--dry-run"], 0).await;
    assert_eq!((&dry_run["letters"], &dry_run["projects"]), (&json!(4), &json!(["shop"])), "{dry_run}");
    assert_eq!(stack.events().await, 6, "a dry run changes nothing");

    let redriven = dead_letters(&stack, &["redrive", "--sqlstate", "23514"], 0).await;
    assert_eq!((&redriven["letters"], &redriven["stored"]), (&json!(4), &json!(4)), "{redriven}");
    assert_eq!((stack.events().await, used(&stack).await), (10, 6), "stored, and not charged again");
    stack.settle_and_audit().await;
    let authorization = format!("Bearer {KEY}");
    let auth = [("authorization", authorization.as_str())];
    let status = get(address, &format!("/v1/batches/{batch}"), &auth).await.json();
    assert_eq!((&status["stored"], &status["dead"]), (&json!(10), &json!(0)), "{status}");
    let usage = get(address, "/v1/usage?window=month", &auth).await.json();
    assert_eq!(
        (&usage["usage"][0]["events"], &usage["usage"][0]["dead"]),
        (&json!(10), &json!(0)),
        "{usage}"
    );

    let again = dead_letters(&stack, &["redrive", "--all"], 0).await;
    assert_eq!((&again["letters"], &again["redrive_id"]), (&json!(0), &Value::Null), "{again}");
    let history = dead_letters(&stack, &["history"], 0).await;
    let redrives: Vec<_> = history["redrives"]
        .as_array()
        .unwrap()
        .iter()
        .map(|redrive| (redrive["filter"].as_str().unwrap(), redrive["stored"].as_u64().unwrap()))
        .collect();
    assert_eq!(redrives, [("--sqlstate 23514", 4), (format!("--id {number}").as_str(), 0)], "{history}");

    // The client sends one of them again: it is a duplicate.
    let mut client = HttpClient::new(address);
    assert_eq!(post(&mut client, KEY, &[refund("a")]).await.unwrap().status, 202);
    stack.settle_and_audit().await;
    assert_eq!((stack.events().await, used(&stack).await), (10, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_reports_a_redrive_that_is_missing_in_any_table() {
    let stack = Stack::start().await;
    let ((_api, address), _worker) = (stack.api().await, stack.worker().await);
    post_with_four_dead(&stack, address).await;
    stack.database.batch_execute(NO_CHECK).await.unwrap();
    dead_letters(&stack, &["redrive", "--all"], 0).await;
    stack.settle_and_audit().await;
    for (remove, restore, rule) in [
        (
            "UPDATE batches SET group_dead[1] = group_dead[1] + 4",
            "UPDATE batches SET group_dead[1] = group_dead[1] - 4",
            "in the ledger",
        ),
        (
            "UPDATE usage_hourly SET events = events - 4, dead = dead + 4",
            "UPDATE usage_hourly SET events = events + 4, dead = dead - 4",
            "rows in events",
        ),
        ("UPDATE usage_hourly SET redriven = 0", "UPDATE usage_hourly SET redriven = 4", "quota"),
        (
            "UPDATE dead_letters SET redriven_at = NULL",
            "UPDATE dead_letters SET redriven_at = now()",
            "events in dead_letters",
        ),
    ] {
        stack.database.batch_execute(remove).await.unwrap();
        let audit = stack.try_millrace(&["audit"]).await;
        assert_eq!(audit.code, Some(1), "{remove}: {audit:?}");
        assert!(audit.stdout.contains(rule), "{rule:?} is not in {}", audit.stdout);
        stack.database.batch_execute(restore).await.unwrap();
    }
    stack.settle_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_reports_wrong_arguments_and_database_errors() {
    let stack = Stack::start().await;
    let ((_api, address), worker) = (stack.api().await, stack.worker().await);
    post_with_four_dead(&stack, address).await;
    drop(worker);
    for (arguments, code, says) in [
        (&["redrive"][..], 2, "--all"),
        (&["redrive", "--all", "--project", "shop"], 2, "--all"),
        (&["redrive", "--since", "yesterday"], 2, "36h"),
        (&["redrive", "--project", "shpo"], 1, "shpo"),
        (&["show", "999"], 1, "999"),
    ] {
        let finished = stack.try_millrace(&[&["dead-letters"], arguments].concat()).await;
        assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains(says), "{says:?} is not in {finished:?}");
    }
    let text = stack.millrace(&["dead-letters", "list", "--limit", "1"]).await;
    assert!(text.contains("1 of 4 letters shown") && text.contains("no_refunds"), "{text}");

    // A database error during the redrive is not a refusal and changes nothing.
    stack.database.batch_execute(NO_CHECK).await.unwrap();
    let outage = "CREATE FUNCTION full() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END$$;
        CREATE TRIGGER full BEFORE UPDATE ON usage_hourly FOR EACH ROW EXECUTE FUNCTION full()";
    stack.database.batch_execute(&outage.replace("full", "disk_full")).await.unwrap();
    let stopped = stack.try_millrace(&["dead-letters", "redrive", "--all"]).await;
    assert_eq!((stopped.code, stopped.stdout.as_str()), (Some(3), ""), "{stopped:?}");
    assert!(stopped.stderr.contains("53100") && stopped.stderr.contains("repeat the command"), "{stopped:?}");
    assert_eq!(stack.events().await, 6);
    stack.database.batch_execute("DROP TRIGGER disk_full ON usage_hourly").await.unwrap();
    stack.settle_and_audit().await;
    let text = stack.millrace(&["dead-letters", "redrive", "--reason", "NO_REFUNDS"]).await;
    assert!(text.contains("Redrove 4 letters: 4 events stored"), "{text}");
    stack.settle_and_audit().await;
}
