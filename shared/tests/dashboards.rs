//! The dashboards ask for metrics that exist.

use std::collections::BTreeSet;
use std::path::Path;

use shared::metrics::METRICS;

#[test]
fn every_metric_a_dashboard_asks_for_is_one_we_have() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("grafana").join("dashboards");
    let known: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let mut asked = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let expression = target["expr"].as_str().unwrap();
                for name in metrics_in(expression) {
                    asked += 1;
                    assert!(known.contains(name), "{:?} asks for {name}", panel["title"]);
                }
            }
        }
    }
    assert!(asked > 20, "the dashboards were not found");
}

/// The metrics' own names: a histogram is asked for by the names of its series.
fn metrics_in(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("millrace_")).map(|word| {
        let series = ["_bucket", "_sum", "_count"].iter();
        series.filter_map(|end| word.strip_suffix(end)).next().unwrap_or(word)
    })
}
