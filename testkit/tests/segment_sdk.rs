//! The official Segment SDK for Python, against the real programs, with an answer lost and a request refused on the
//! way.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use testkit::{HttpProxy, Postgres, Program, Redis, RequestFault, eventually, http};
use tokio_postgres::Client;

const CALLS: i64 = 1_000;
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_thousand_calls_of_the_real_sdk_are_a_thousand_rows() {
    let redis = Redis::start().await;
    let postgres = Postgres::start().await;
    let (redis_url, database_url) = (redis.url(), postgres.url());
    let settings = [
        ("REDIS_URL", redis_url.as_str()),
        ("DATABASE_URL", database_url.as_str()),
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("METRICS_ADDR", "127.0.0.1:0"),
    ];
    operate(&["migrate"], &settings).await;
    let key = operate(&["project", "create", "shop", "--plan", "pro", "--json"], &settings).await;
    let key = key["key"].as_str().expect("a new project has a key").to_owned();
    let mut api = Program::start("ingest-api", &settings);
    let _worker = Program::start("stream-worker", &settings);
    let server = api.address().await;
    eventually(DEADLINE, "ingest-api to be ready", async || {
        http::get(server, "/readyz", &[]).await.status == 200
    })
    .await;

    let spoils = [(3, RequestFault::DropAnswer), (6, RequestFault::TooManyRequests(1))];
    let proxy = HttpProxy::start(server, &spoils).await;
    let told = run_sdk(proxy.address(), &key).await;
    let done = proxy.counts();
    assert_eq!((done.dropped, done.refused), (1, 1), "{done:?}");
    assert_eq!(done.received, done.delivered + 2, "every other request was answered: {done:?}");

    let client = postgres.connect().await;
    eventually(DEADLINE, "every accepted event to be accounted for, with nothing pending", async || {
        let audit = Program::run("millrace", &["audit", "--json"], &settings).await;
        let report: Value = serde_json::from_str(&audit.stdout).map_err(|_| audit.stderr.clone())?;
        if audit.code == Some(0) && report["exact"] == true { Ok(()) } else { Err(audit.stdout) }
    })
    .await;
    assert_every_call_is_its_row(&client, &told).await;
    assert_metering_is_exact(&client).await;
}

/// Runs an operator's command that must succeed; its JSON, if it printed any.
async fn operate(arguments: &[&str], settings: &[(&str, &str)]) -> Value {
    let finished = Program::run("millrace", arguments, settings).await;
    assert_eq!(finished.code, Some(0), "millrace {arguments:?}: {}", finished.stderr);
    serde_json::from_str(&finished.stdout).unwrap_or_default()
}

/// What the SDK was told, one object for each call.
async fn run_sdk(server: SocketAddr, key: &str) -> Value {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = here.with_file_name(".test").join("venv/bin/python");
    assert!(python.is_file(), "{} is missing: run ./test, which installs the SDK", python.display());
    let folder = tempfile::tempdir().unwrap();
    let told: PathBuf = folder.path().join("told.json");
    let output = tokio::process::Command::new(python)
        .arg(here.join("sdk/segment_client.py"))
        .args([&format!("http://{server}"), key])
        .arg(&told)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(told).unwrap()).unwrap()
}

async fn assert_every_call_is_its_row(client: &Client, told: &Value) {
    assert_eq!(told.as_array().map(Vec::len), Some(CALLS as usize));
    let counted = client.query_one("SELECT count(*) FROM events", &[]).await.unwrap();
    assert_eq!(counted.get::<_, i64>(0), CALLS, "as many rows as calls");
    // A UUID is kept as the event's id; any other id stands beside it as it was sent. A call without a time of its
    // own got one from the SDK while it ran.
    let differing = "
        SELECT told::text, to_jsonb(events)::text
        FROM jsonb_array_elements($1) AS told
        LEFT JOIN events ON coalesce(client_id, event_id::text) = told->>'message_id'
        WHERE (name = told->>'name'
            AND subject = told->>'subject'
            AND CASE WHEN told->>'timestamp' IS NULL
                THEN timestamp BETWEEN now() - interval '10 minutes' AND now()
                ELSE timestamp = (told->>'timestamp')::timestamptz END
            AND properties = told->'properties'
            AND context @> (told->'context')) IS NOT TRUE";
    let rows = client.query(differing, &[told]).await.unwrap();
    let shown: Vec<(String, Option<String>)> =
        rows.iter().take(3).map(|row| (row.get(0), row.get(1))).collect();
    assert!(rows.is_empty(), "{} calls are not what they should be, such as {shown:#?}", rows.len());
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
    assert!(sum(2) > 0, "the batch whose answer was lost came twice, or this test has tested nothing");
    assert_eq!((sum(4), sum(5)), (0, 0), "nothing was refused by the database");
}
