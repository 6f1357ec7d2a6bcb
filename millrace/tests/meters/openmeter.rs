//! OpenMeter's SDKs for Python and Node read meters.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::site::Site;

const PYTHON: (&str, &str) = (".test/venv/bin/python", "testkit/sdk/meter_reads.py");
const NODE: (&str, &str) = ("node", "testkit/sdk/node/meter_reads.js");

/// What the program read.
async fn read((interpreter, program): (&str, &str), site: &Site) -> Value {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let interpreter =
        if interpreter.contains('/') { project.join(interpreter) } else { PathBuf::from(interpreter) };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("read.json");
    let output = tokio::process::Command::new(&interpreter)
        .arg(project.join(program))
        .args([&format!("http://{}", site.address), &site.key])
        .arg(&file)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap_or_else(|error| panic!("{}: {error}; ./test installs the SDKs", interpreter.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn meter(id: &Value, slug: &str, aggregation: &str, value: Option<&str>, groups: Value) -> Value {
    json!({
        "id": id, "slug": slug, "name": slug, "aggregation": aggregation, "eventType": "llm_call",
        "valueProperty": value, "groupBy": groups,
    })
}

const START: &str = "2026-10-23T22:00:00.000Z";
const END: &str = "2026-10-26T23:00:00.000Z";

fn result(window: Option<&str>, data: Value) -> Value {
    json!({"from": START, "to": END, "windowSize": window, "data": data})
}

fn row(value: f64, [start, end]: [&str; 2], subject: Option<&str>, groups: Value) -> Value {
    json!({"value": value, "windowStart": start, "windowEnd": end, "subject": subject, "groupBy": groups})
}

/// What both programs must write. `ids` are those that they have read.
fn expected(ids: &[Value]) -> Value {
    let model = |value: Option<&str>| json!({ "model": value });
    let all = [START, END];
    let (midnight, next) = ("2026-10-24T22:00:00.000Z", "2026-10-25T23:00:00.000Z");
    let calls = meter(&ids[0], "calls", "COUNT", None, json!({}));
    let tokens = meter(&ids[1], "tokens", "SUM", Some("$.tokens"), json!({"model": "$.model"}));
    let users = meter(&ids[2], "users", "UNIQUE_COUNT", Some("subject"), json!({}));
    json!({
        "list": [calls, tokens, users],
        "page": [tokens],
        "get": tokens,
        "by_id": calls,
        "whole": result(None, json!([row(9_007_199_254_741_000.0, all, None, json!({}))])),
        "days": result(Some("DAY"), json!([
            row(0.1, [START, midnight], None, json!({})),
            row(9_007_199_254_740_998.0, [midnight, next], None, json!({})),
            row(2.0, [next, END], None, json!({})),
        ])),
        "groups": result(None, json!([
            row(3.25, all, Some(""), model(Some("a"))),
            row(0.3, all, Some("acme"), model(Some("a"))),
            row(9_007_199_254_740_992.0, all, Some("acme"), model(Some("b"))),
            row(1.5, all, Some("globex"), model(Some("a"))),
            row(2.0, all, Some("globex"), model(None)),
        ])),
        "subjects": result(None, json!([
            row(9_007_199_254_740_993.3, all, Some("acme"), json!({})),
            row(3.5, all, Some("globex"), json!({})),
        ])),
        "filtered": result(None, json!([row(5.05, all, None, json!({}))])),
        "posted": result(Some("MONTH"), json!([
            row(0.3, all, Some("acme"), model(Some("a"))),
            row(9_007_199_254_740_992.0, all, Some("acme"), model(Some("b"))),
        ])),
        "until_now": 8.0,
        "refused": {"minutes": 400, "no quarter": 400, "absent": 404, "no group": 400},
    })
}

/// All numbers as floats: both SDKs make floats of them, and write them in different forms.
fn with_floats(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap()),
        Value::Array(values) => values.into_iter().map(with_floats).collect(),
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (name, with_floats(value))).collect())
        }
        other => other,
    }
}

async fn both_sdks_read_the_same(site: Site) {
    let mut python = with_floats(read(PYTHON, &site).await);
    let node = with_floats(read(NODE, &site).await);
    let csv = python.as_object_mut().unwrap().shift_remove("csv").unwrap();
    let ids: Vec<Value> = node["list"].as_array().unwrap().iter().map(|meter| meter["id"].clone()).collect();
    let expected = with_floats(expected(&ids));
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&python[name], value, "{name}, in Python");
        assert_eq!(&node[name], value, "{name}, in Node");
    }
    assert_eq!(python, node);
    let mut lines = csv.as_str().unwrap().split("\r\n");
    assert_eq!(lines.next(), Some("window_start,window_end,subject,model,value"));
    assert_eq!(lines.nth(2), Some("2026-10-23T22:00:00Z,2026-10-26T23:00:00Z,acme,b,9007199254740993"));
}

#[tokio::test(flavor = "multi_thread")]
async fn openmeters_sdks_for_python_and_node_read_the_same_meters_and_figures_on_files() {
    both_sdks_read_the_same(Site::on_files().await.with_a_bill().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openmeters_sdks_for_python_and_node_read_the_same_meters_and_figures_on_servers() {
    both_sdks_read_the_same(Site::on_servers().await.with_a_bill().await).await;
}
