//! Writes the result of every query of every panel to a file, for `grafana/render/draw`. The load is light,
//! then heavy, then moderate, and PostgreSQL is paused for a while, so that no panel is flat.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use testkit::grafana::{Panel, Question, View, dashboards};
use testkit::{Sample, Series};
use tokio_postgres::types::Type;

use crate::installation::{Installation, QueryResult};
use crate::load::Load;

/// The length of each phase in seconds, and the batches per second of each client.
const PHASES: &[(u64, u64)] = &[(60, 4), (40, 40), (50, 12)];
/// How long PostgreSQL is paused, and how long it then has to catch up.
const PAUSE: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes four minutes and tests nothing: it writes the data of the pictures"]
async fn draw() {
    let file = std::env::var("DASHBOARD_ANSWERS").expect("DASHBOARD_ANSWERS is the file to write");
    let mut installation = Installation::start().await;
    let load = Load::start(installation.api, PHASES[0].1);
    for (seconds, batches_per_second) in PHASES {
        load.set_rate(*batches_per_second);
        tokio::time::sleep(Duration::from_secs(*seconds)).await;
    }
    installation.postgres.pause();
    tokio::time::sleep(PAUSE).await;
    installation.postgres.resume();
    tokio::time::sleep(PAUSE).await;
    installation.operate(&["dead-letters", "redrive", "--project", "warehouse"]).await;
    let mut results = Map::new();
    for dashboard in dashboards() {
        let view = installation.view(Duration::from_secs(2));
        let mut panels = Map::new();
        for panel in dashboard.panels() {
            panels.insert(panel.json["id"].to_string(), panel_results(&installation, panel, &view).await);
        }
        let range = json!({ "from": view.from, "to": view.to });
        results.insert(dashboard.name, json!({ "range": range, "panels": panels }));
    }
    load.stop().await;
    std::fs::write(file, Value::Object(results).to_string()).unwrap();
}

async fn panel_results(installation: &Installation, panel: Panel<'_>, view: &View<'_>) -> Value {
    let mut results = Vec::new();
    for question in panel.questions() {
        // Quotas are shown for the month, metrics for the time of the load.
        let view = if matches!(question, Question::Sql(_)) { installation.month() } else { view.clone() };
        results.push(as_json(installation.ask(question, &view).await.unwrap()));
    }
    Value::Array(results)
}

fn as_json(result: QueryResult) -> Value {
    match result {
        QueryResult::Series(all) => {
            let series = |series: &Series| {
                let labels: BTreeMap<_, _> = series.labels.iter().cloned().collect();
                let sample = |sample: &Sample| json!([sample.time, sample.value.to_string()]);
                json!({ "labels": labels, "samples": series.samples.iter().map(sample).collect::<Vec<_>>() })
            };
            json!({ "series": all.iter().map(series).collect::<Vec<_>>() })
        }
        QueryResult::Rows(rows) => {
            let column = |(name, kind): &(String, Type)| json!({ "name": name, "type": kind.name() });
            json!({ "columns": rows.columns.iter().map(column).collect::<Vec<_>>(), "rows": rows.rows })
        }
    }
}
