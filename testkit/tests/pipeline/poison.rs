//! Entries that the API would never accept, written directly into the stream.

use bytes::Bytes;
use millrace_event::entry::{NewBatch, PackedEntry};
use millrace_event::plan::ProjectId;
use millrace_event::row::{EventTime, Row};
use testkit::eventually;
use testkit::http::HttpClient;
use uuid::Uuid;

use crate::stack::{KEY, SOON, Stack, event, post};

fn row(name: &str, properties: &str, rows: &mut Vec<u8>) {
    let row = Row {
        time: EventTime::At(1_795_000_000_000_000),
        properties: Some(properties.as_bytes()),
        ..Row::bare(ProjectId(1), Uuid::new_v4(), name)
    };
    row.write(rows);
}

async fn write_entry(stack: &Stack, fields: &[(&str, Bytes)]) {
    let mut command = redis::cmd("XADD");
    command.arg("{s0}:events").arg("*");
    for (name, value) in fields {
        command.arg(name).arg(&value[..]);
    }
    let _: String = command.query_async(&mut stack.servers.redis.connect().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_dead_lettered_once_with_reason_and_payload_and_the_other_events_are_stored() {
    let stack = Stack::start().await;
    let (_api, address) = stack.api().await;
    let mut client = HttpClient::new(address);
    assert_eq!(post(&mut client, KEY, &[event("before")]).await.unwrap().status, 202);

    let mut rows = Vec::new();
    row("good one", r#"{"a":1}"#, &mut rows);
    row("nul", r#"{"a":"\u0000"}"#, &mut rows);
    row("lone surrogate", r#"{"a":"\ud800"}"#, &mut rows);
    row("good two", "{}", &mut rows);
    row("not JSON", "{", &mut rows);
    row("too large", r#"{"a":1e400000}"#, &mut rows);
    let group = |count: u32, rows: &[u8]| {
        PackedEntry::pack([&NewBatch::new(Uuid::now_v7(), ProjectId(1), count, rows.to_vec())])
    };
    write_entry(&stack, &group(6, &rows).fields()).await;

    let mut torn = group(6, &rows).fields();
    torn[3].1 = Bytes::from_static(b"these are no rows");
    write_entry(&stack, &torn).await;
    write_entry(&stack, &[("v", Bytes::from_static(b"99")), ("x", Bytes::from_static(b"from the future"))])
        .await;
    assert_eq!(post(&mut client, KEY, &[event("after")]).await.unwrap().status, 202);

    let worker = stack.worker().await;
    eventually(SOON, "four good rows", async || stack.events().await == 4).await;
    eventually(SOON, "six dead letters", async || {
        stack.count("SELECT count(*) FROM dead_letters").await == 6
    })
    .await;
    let letters = stack
        .database
        .query("SELECT sqlstate, reason, payload, event_index, event_count FROM dead_letters ORDER BY dead_letter_id", &[])
        .await
        .unwrap();
    let with_payload = |payload: &[u8]| {
        let holds = |row: &&tokio_postgres::Row| {
            row.get::<_, &[u8]>(2).windows(payload.len()).any(|part| part == payload)
        };
        letters.iter().filter(holds).count()
    };
    for payload in
        [&b"nul"[..], b"lone surrogate", b"not JSON", b"too large", b"these are no rows", b"from the future"]
    {
        assert_eq!(with_payload(payload), 1, "{}", String::from_utf8_lossy(payload));
    }
    assert!(letters.iter().all(|row| !row.get::<_, &str>(1).is_empty()), "every letter has a reason");
    let codes: Vec<_> = letters.iter().filter_map(|row| row.get::<_, Option<&str>>(0)).collect();
    assert!(codes.contains(&"22P05") && codes.contains(&"22P02"), "{codes:?}");
    stack.settle_and_audit().await;
    drop(worker);
}
