//! The commands for dead letters, on files. The tests of the pipeline have the same on servers.

mod installation;

use std::sync::Arc;

use millrace_event::entry::{EntryId, pack_rows};
use millrace_event::plan::ProjectId;
use millrace_event::row::{EventTime, Row};
use millrace_event::undeliverable::UndeliverableCall;
use millrace_store::sqlite::SqliteStore;
use millrace_store::{KeyOptions, PolicyChange};
use millrace_store::{Ledger, Operators, Payload, WriteRequest};
use serde_json::{Value, json};
use uuid::Uuid;

use installation::Installation;

const RECEIVED_MS: u64 = 1_795_219_200_000;

/// An entry that was rejected as a whole, with this many events, or with bytes that cannot be read.
fn dead_entry(project: ProjectId, seq: u64, events: u32, is_torn: bool) -> WriteRequest {
    let mut rows = Vec::new();
    for number in 0..events {
        let id = Uuid::from_u128(u128::from(seq) << 32 | u128::from(number));
        let row = Row {
            time: EventTime::At(RECEIVED_MS.cast_signed() * 1_000),
            properties: Some(br#"{"revenue": 19.90}"#),
            ..Row::bare(project, id, "order_completed")
        };
        row.write(&mut rows);
    }
    let batch_id = Uuid::now_v7();
    let raw = if is_torn { b"\x1b[31mtorn".as_slice().into() } else { pack_rows(&rows) };
    let reason =
        if is_torn { "the rows do not decompress" } else { "handling this entry ended the worker 5 times" };
    WriteRequest {
        entry: EntryId { ms: RECEIVED_MS, seq },
        shard: 0,
        batch_id,
        project,
        count: events,
        payload: Payload::DeadLetter { reason: reason.to_owned(), raw },
    }
}

/// An installation on files with one project, `shop`.
async fn shop() -> (Installation, Arc<SqliteStore>, ProjectId) {
    let installation = Installation::on_files();
    std::fs::create_dir(installation.data()).unwrap();
    let store = SqliteStore::open(&installation.data()).unwrap();
    store.migrate().await.unwrap();
    let (project, _) =
        store.create_project("shop", "pro", &PolicyChange::default(), &KeyOptions::default()).await.unwrap();
    (installation, store, project)
}

#[tokio::test]
async fn dead_letters_are_listed_shown_and_stored_when_they_can_be() {
    let (installation, store, project) = shop().await;
    let entries = [dead_entry(project, 0, 3, false), dead_entry(project, 1, 2, true)];
    store.writer("test").await.unwrap().write(&entries).await.unwrap();
    let run = async |arguments: &[&str]| installation.run(&[&["dead-letters"], arguments].concat()).await;
    let read = async |arguments: &[&str], code: i32| -> Value {
        let finished = run(&[arguments, &["--json"]].concat()).await;
        assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    };

    let list = run(&["list"]).await;
    assert!(list.stdout.contains("2 of 2 letters shown (5 events in all letters)."), "{list:?}");
    let torn = run(&["show", "2"]).await;
    assert!(torn.stdout.contains(r"It cannot be read") && torn.stdout.contains(r"\x1b[31mtorn"), "{torn:?}");
    let whole = read(&["show", "1"], 0).await;
    assert_eq!(whole["contents"].as_array().unwrap().len(), 3);
    assert_eq!(whole["contents"][0]["properties"], json!({"revenue": 19.90}));
    let rehearsal = read(&["redrive", "--project", "shop", "--dry-run"], 0).await;
    assert_eq!(
        (&rehearsal["events"], &rehearsal["unreadable"][0]["id"]),
        (&json!(5), &json!(2)),
        "{rehearsal}"
    );

    let redriven = read(&["redrive", "--all"], 1).await;
    assert_eq!((&redriven["stored"], &redriven["refused"]), (&json!(3), &json!(2)), "{redriven}");
    let left = read(&["list", "--redriven"], 0).await;
    assert_eq!(left["total"]["letters"], 2);
    assert_eq!(read(&["list"], 0).await["total"]["letters"], 1);
    let totals = store.totals(true).await.unwrap().remove(0);
    assert_eq!((totals.stored, totals.event_rows, totals.dead, totals.dead_rows), (3, 3, 2, 2));
    assert_eq!((totals.ledger, totals.stored_this_month), (totals.ledger_hours, 0));
    let history = run(&["history"]).await;
    assert!(history.stdout.lines().count() == 2 && history.stdout.contains("--all"), "{history:?}");
    assert!(run(&["list", "--project", "shpo"]).await.stderr.contains("did you mean \"shop\"?"));
}

/// An entry of one call that no event can be made of.
fn call_entry(project: ProjectId) -> WriteRequest {
    let mut row = Vec::new();
    let call = b"{\"type\":\"trakc\xff\",\"note\":\"\x1b[31m\"}";
    UndeliverableCall { project, code: "invalid_type", message: "the type is unknown", call }.write(&mut row);
    WriteRequest { payload: Payload::Rows(row.into()), ..dead_entry(project, 7, 1, true) }
}

#[tokio::test]
async fn a_call_that_is_no_event_is_shown_as_text_and_never_redriven() {
    let (installation, store, project) = shop().await;
    let entries = [call_entry(project), dead_entry(project, 1, 2, false)];
    store.writer("test").await.unwrap().write(&entries).await.unwrap();
    let run = async |arguments: &[&str]| installation.run(&[&["dead-letters"], arguments].concat()).await;
    let read = async |arguments: &[&str], code: i32| -> Value {
        let finished = run(&[arguments, &["--json"]].concat()).await;
        assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    };

    let list = run(&["list", "--code", "invalid_type"]).await;
    assert!(list.stdout.contains("1 of 1 letter") && list.stdout.contains("the type is unknown"), "{list:?}");
    assert_eq!(read(&["list"], 0).await["reasons"].as_array().unwrap().len(), 2);
    let shown = run(&["show", "1"]).await;
    assert!(shown.stdout.contains(r#"{"type":"trakc"#) && !shown.stdout.contains('\u{1b}'), "{shown:?}");
    let letter = read(&["show", "1"], 0).await;
    assert_eq!((&letter["code"], &letter["sqlstate"]), (&json!("invalid_type"), &Value::Null));
    assert_eq!(letter["call"], json!("{\"type\":\"trakc\u{fffd}\",\"note\":\"\u{1b}[31m\"}"));
    let rehearsal = run(&["redrive", "--all", "--dry-run"]).await;
    assert!(rehearsal.stdout.contains("no event can be made of this call (invalid_type)"), "{rehearsal:?}");
    let redriven = read(&["redrive", "--all"], 1).await;
    assert_eq!((&redriven["stored"], &redriven["refused"]), (&json!(2), &json!(1)), "{redriven}");
    let left = read(&["list"], 0).await;
    assert_eq!((&left["letters"][0]["id"], &left["total"]["events"]), (&json!(1), &json!(1)), "{left}");
    assert_eq!(left["letters"][0]["reason"], "the type is unknown");
}
