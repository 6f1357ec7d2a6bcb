//! `docs/metrics.md` and the code say the same, in both directions.

use std::path::Path;

use millrace_telemetry::metrics::{Descriptor, Installation, Kind, Label, Program, Values};

use crate::tables::metrics;

const HEAD: &str = "| name | type | unit | labels and all their values | from | meaning, and what to do |";

#[test]
fn the_page_lists_exactly_the_metrics_of_the_code_with_their_labels() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join("metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .skip_while(|line| *line != HEAD)
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let mut expected: Vec<String> = metrics().into_iter().map(beginning).collect();
    expected.sort_unstable();
    for beginning in &expected {
        assert!(
            rows.iter().any(|row| row.starts_with(beginning)),
            "docs/metrics.md lacks the row
{beginning}"
        );
    }
    assert_eq!(rows.len(), expected.len(), "docs/metrics.md has rows that no table has");
}

#[test]
fn every_link_to_the_runbook_leads_somewhere() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs");
    let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap();
    let runbook = read("runbook.md");
    let headings: Vec<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let metrics = read("metrics.md");
    let links = metrics.split("](runbook.md#").skip(1).chain(runbook.split("](#").skip(1));
    let anchors: Vec<&str> = links.map(|link| link.split(')').next().unwrap()).collect();
    assert!(anchors.len() > 60, "the links were not found");
    for anchor in anchors {
        assert!(headings.iter().any(|heading| heading == anchor), "nothing stands at #{anchor}");
    }
}

#[test]
fn names_are_as_prometheus_wants_them() {
    for metric in metrics() {
        let name = metric.name;
        assert!(name.starts_with("millrace_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        assert_eq!(metrics().iter().filter(|other| other.name == name).count(), 1, "{name}");
        for label in metric.labels {
            assert!(!["project", "event", "name", "key"].contains(&label.name), "{name}: {}", label.name);
        }
    }
}

/// What a row must begin with.
fn beginning(metric: &Descriptor) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let labels = if metric.labels.is_empty() {
        "–".to_owned()
    } else {
        metric.labels.iter().map(label).collect::<Vec<_>>().join("; ")
    };
    let (name, unit, from, help) = (metric.name, unit(metric.name), from(metric), metric.help);
    format!("| `{name}` | {kind} | {unit} | {labels} | {from} | {help}")
}

fn label(label: &Label) -> String {
    let values = match label.values {
        Values::These(values) => {
            values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
        }
        Values::Built(_) => "as built".to_owned(),
        Values::Routes => "every path of the API, `unmatched`".to_owned(),
    };
    format!("`{}`: {values}", label.name)
}

fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    match name {
        _ if name.ends_with("_timestamp_seconds") || name.ends_with("_time_seconds") => "seconds since 1970",
        _ if name.ends_with("_seconds") => "seconds",
        _ if name.contains("_bytes") => "bytes",
        _ => "count",
    }
}

fn from(metric: &Descriptor) -> String {
    let process = match metric.program {
        Program::Api => "ingest-api",
        Program::Worker => "stream-worker",
        Program::Any => "both",
    };
    let place = match metric.installation {
        Installation::Either => "",
        Installation::Servers => ", on servers",
        Installation::Files => ", on files",
    };
    format!("{process}{place}")
}
