//! A person is erased under load, while the command and the workers are killed.

use std::time::Duration;

use rand::RngExt;
use serde_json::json;
use testkit::eventually;
use testkit::http::HttpClient;
use testkit::oracle::{Invariant, Load};
use tokio_postgres::Client;

use crate::node::SOON;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[Row {
    name: "subject erased under load",
    target: "millrace subject erase, worker",
    fault: "SIGKILL of the command and of a worker at random moments, three times, while events of the person arrive",
    expected: "the repeated command leaves no trace of the person in any column; the audit holds; others are complete",
    tier: Tier::Quick,
    run: |drill| Box::pin(erased_under_load(drill)),
}];

/// The person, whose name is in no other text.
const PERSON: &str = "person-of-the-drill";
const HEADERS: [(&str, &str); 1] = [("authorization", "Bearer drill-key-of-people")];
const ERASE: [&str; 5] = ["subject", "erase", "people", PERSON, "--yes"];
/// Batches posted between two kills, each with as many events of the person as of another.
const BATCHES: u64 = 20;

async fn erased_under_load(drill: Drill) -> Verdict {
    let mut rng = drill.rng(15);
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    let create = ["project", "create", "people", "--plan", "drill", "--key", "drill-key-of-people"];
    system.operate(&create).await;
    let meter = ["meter", "create", "people", "sums", "--event", "call", "--aggregation", "sum"];
    system.operate(&[&meter[..], &["--value", "$.n"]].concat()).await;
    let mut api = HttpClient::new(system.addresses().await[0]);
    eventually(
        SOON,
        "the new key to be accepted",
        async || matches!(api.get("/v1/limits", &HEADERS).await, Ok(answer) if answer.status == 200),
    )
    .await;
    let mut posted = 0;
    for kill in 0..3 {
        posted += post(&mut api, kill).await;
        let mut command = system.start_operating(&ERASE);
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..2_500))).await;
        system.workers[0].kill().await;
        command.kill().await;
        posted += post(&mut api, 100 + kill).await;
        system.workers[0].start().await;
    }
    system.operate(&ERASE).await;
    let database = system.postgres.connect().await;
    for trace in traces(&database).await {
        system.violated(Invariant::RefusedStaysOut, format!("{trace} still has the erased subject"));
    }
    let kept = "SELECT count(*) FROM events e JOIN projects p USING (project_id) WHERE p.name = 'people'";
    let kept: i64 = database.query_one(kept, &[]).await.expect("events can be counted").get(0);
    if kept * 2 != posted {
        system
            .violated(Invariant::NothingLost, format!("{kept} events of others are left of {posted} posted"));
    }
    let audit = system.audit(&[]).await;
    if audit.code != Some(0) {
        system.violated(Invariant::TotalsAgree, format!("after the erasure: {audit:?}"));
    }
    clients.acknowledge(50).await;
    system.note(Effect::Killed, 3);
    system.finish(clients, &[(Effect::Acknowledged, 50), (Effect::Killed, 3)]).await
}

/// Posts batches until each is accepted. Returns the number of events.
async fn post(api: &mut HttpClient, round: u64) -> i64 {
    let mut posted = 0;
    for batch in 0..BATCHES {
        let event = |part: u64| {
            let subject = if part.is_multiple_of(2) { PERSON } else { "somebody" };
            let id = format!("{round}-{batch}-{part}");
            json!({ "id": id, "name": "call", "subject": subject, "timestamp": "2026-10-25T12:00:00Z",
                    "properties": { "n": part } })
        };
        let events: Vec<_> = (0..10).map(event).collect();
        let body = json!(events).to_string();
        eventually(SOON, "a batch of the person to be accepted", async || {
            matches!(api.post("/v1/events", &HEADERS, body.clone()).await, Ok(answer) if answer.status == 202)
        })
        .await;
        posted += 10;
    }
    posted
}

/// The columns of all tables in which the person is.
async fn traces(database: &Client) -> Vec<String> {
    let columns = "SELECT c.relname::text, a.attname::text, a.atttypid = 'bytea'::regtype
                     FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                      AND a.attnum > 0 AND NOT a.attisdropped";
    let mut traces = Vec::new();
    for column in database.query(columns, &[]).await.expect("columns can be listed") {
        let (table, name, is_bytes): (&str, &str, bool) = (column.get(0), column.get(1), column.get(2));
        let found = match is_bytes {
            true => format!("position(convert_to($1, 'UTF8') IN {name:?})"),
            false => format!("position($1 IN {name:?}::text)"),
        };
        let search = format!("SELECT count(*) FROM {table} WHERE {found} > 0");
        let row = database.query_one(&search, &[&PERSON]).await.expect("a column can be searched");
        traces.extend((row.get::<_, i64>(0) > 0).then(|| format!("{table}.{name}")));
    }
    traces
}
