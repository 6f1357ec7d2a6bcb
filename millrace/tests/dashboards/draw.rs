//! Writes down what every question of every panel is answered with, for `grafana/render/draw`. The load has a quiet beginning, a
//! rush, and a PostgreSQL that stands still for a while, so that the pictures show what there is to see.

use std::time::Duration;

use serde_json::{Map, Value, json};
use testkit::grafana::{Panel, Question, View, dashboards};

use crate::load::Load;
use crate::stage::{Answered, Stage};

/// The length of each act, in seconds, and the batches a second of each client.
const ACTS: &[(u64, u64)] = &[(60, 4), (40, 40), (50, 12)];
const STANDS_STILL: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes four minutes and tests nothing: it makes the data of the pictures"]
async fn draw() {
    let file = std::env::var("DASHBOARD_ANSWERS").expect("DASHBOARD_ANSWERS is the file to write");
    let mut stage = Stage::start().await;
    let load = Load::start(stage.api, ACTS[0].1);
    for (seconds, pace) in ACTS {
        load.pace(*pace);
        tokio::time::sleep(Duration::from_secs(*seconds)).await;
    }
    stage.postgres.pause();
    tokio::time::sleep(STANDS_STILL).await;
    stage.postgres.resume();
    tokio::time::sleep(STANDS_STILL).await;
    stage.operate(&["dead-letters", "redrive", "--project", "warehouse"]).await;
    let mut answers = Map::new();
    for dashboard in dashboards() {
        let view = stage.view(Duration::from_secs(2));
        let mut panels = Map::new();
        for panel in dashboard.panels() {
            panels.insert(panel.json["id"].to_string(), answers_of(&stage, panel, &view).await);
        }
        let range = json!({ "from": view.from, "to": view.to });
        answers.insert(dashboard.name, json!({ "range": range, "panels": panels }));
    }
    load.stop().await;
    std::fs::write(file, Value::Object(answers).to_string()).unwrap();
}

async fn answers_of(stage: &Stage, panel: Panel<'_>, view: &View<'_>) -> Value {
    let mut answers = Vec::new();
    for question in panel.questions() {
        // A quota is looked at by the month, what comes in by the hour.
        let view = if matches!(question, Question::Sql(_)) { stage.month() } else { view.clone() };
        answers.push(match stage.ask(question, &view).await.unwrap() {
            Answered::Course(series) => json!({ "series": series.iter().map(|series| json!({
                "labels": series.labels.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
                "samples": series.samples.iter().map(|sample| json!([sample.time, sample.value.to_string()])).collect::<Vec<_>>(),
            })).collect::<Vec<_>>() }),
            Answered::Rows(rows) => json!({
                "columns": rows.columns.iter().map(|(name, kind)| json!({ "name": name, "type": kind.name() })).collect::<Vec<_>>(),
                "rows": rows.rows,
            }),
        });
    }
    Value::Array(answers)
}
