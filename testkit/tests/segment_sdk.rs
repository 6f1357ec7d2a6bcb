//! The official Segment SDK for Python against the real programs, with one lost response and one refused
//! request.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use testkit::{Deployment, HttpProxy, RequestFault, eventually};
use tokio_postgres::Client;

const CALLS: i64 = 1_000;
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_thousand_calls_of_the_segment_sdk_are_stored_as_a_thousand_rows() {
    let servers = Deployment::start().await;
    // The calls have addresses, which must be stored as they were sent.
    let create = ["project", "create", "shop", "--plan", "pro", "--store-ip", "--json"];
    let project = servers.millrace(&create).await;
    let project: Value = serde_json::from_str(&project).unwrap();
    let key = project["key"].as_str().expect("a new project has a key").to_owned();
    let (_api, server) = servers.start_api(&[]).await;
    let _worker = servers.start_worker(&[]).await;

    let faults = [(3, RequestFault::DropAnswer), (6, RequestFault::TooManyRequests(1))];
    let proxy = HttpProxy::start(server, &faults).await;
    let calls = run_sdk(proxy.address(), &key).await;
    let counts = proxy.counts();
    assert_eq!((counts.dropped, counts.refused), (1, 1), "{counts:?}");
    assert_eq!(counts.received, counts.delivered + 2, "every other request got its response: {counts:?}");

    let client = servers.postgres.connect().await;
    eventually(DEADLINE, "an exact audit with nothing pending", async || {
        let audit = servers.try_millrace(&["audit", "--json"]).await;
        let report: Value = serde_json::from_str(&audit.stdout).map_err(|_| audit.stderr.clone())?;
        if audit.code == Some(0) && report["exact"] == true { Ok(()) } else { Err(audit.stdout) }
    })
    .await;
    assert_every_call_is_its_row(&client, &calls).await;
    assert_metering_is_exact(&client).await;
}

/// Runs the SDK and returns one object for each call, with the expected row.
async fn run_sdk(server: SocketAddr, key: &str) -> Value {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = here.with_file_name(".test").join("venv/bin/python");
    assert!(python.is_file(), "{} is missing: ./test installs the SDK", python.display());
    let folder = tempfile::tempdir().unwrap();
    let calls: PathBuf = folder.path().join("calls.json");
    let output = tokio::process::Command::new(python)
        .arg(here.join("sdk/segment_client.py"))
        .args([&format!("http://{server}"), key])
        .arg(&calls)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(calls).unwrap()).unwrap()
}

async fn assert_every_call_is_its_row(client: &Client, calls: &Value) {
    assert_eq!(calls.as_array().map(Vec::len), Some(CALLS as usize));
    let counted = client.query_one("SELECT count(*) FROM events", &[]).await.unwrap();
    assert_eq!(counted.get::<_, i64>(0), CALLS, "one row per call");
    // A UUID is stored as the event's id, any other id in client_id. A call without a timestamp got one from
    // the SDK.
    let differing = "
        SELECT call::text, to_jsonb(events)::text
        FROM jsonb_array_elements($1) AS call
        LEFT JOIN events ON coalesce(client_id, event_id::text) = call->>'message_id'
        WHERE (name = call->>'name'
            AND subject = call->>'subject'
            AND CASE WHEN call->>'timestamp' IS NULL
                THEN timestamp BETWEEN now() - interval '10 minutes' AND now()
                ELSE timestamp = (call->>'timestamp')::timestamptz END
            AND properties = call->'properties'
            AND context @> (call->'context')) IS NOT TRUE";
    let rows = client.query(differing, &[calls]).await.unwrap();
    let shown: Vec<(String, Option<String>)> =
        rows.iter().take(3).map(|row| (row.get(0), row.get(1))).collect();
    assert!(rows.is_empty(), "the rows of {} calls differ, such as {shown:#?}", rows.len());
}

async fn assert_metering_is_exact(client: &Client) {
    let sums = "
        SELECT (SELECT sum(events)::bigint FROM usage_hourly), (SELECT sum(stored)::bigint FROM batches),
               (SELECT sum(duplicates)::bigint FROM usage_hourly), (SELECT sum(duplicate)::bigint FROM batches),
               (SELECT sum(dead)::bigint FROM usage_hourly), (SELECT count(*) FROM dead_letters)";
    let row = client.query_one(sums, &[]).await.unwrap();
    let sum = |column: usize| row.get::<_, i64>(column);
    assert_eq!((sum(0), sum(1)), (CALLS, CALLS), "usage and ledger agree with the rows");
    assert_eq!(sum(2), sum(3), "usage and ledger agree on duplicates");
    assert!(sum(2) > 0, "the batch whose response was lost was sent twice");
    assert_eq!((sum(4), sum(5)), (0, 0), "nothing was refused by the database");
}
