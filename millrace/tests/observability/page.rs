//! `docs/metrics.md` agrees with the tables of metrics in the code.
//!
//! `UPDATE_DOCS=1 cargo test -p millrace --test observability` writes the page's table from the code. It
//! keeps the last column, which is written by hand, and adds a row with an empty last column for a new
//! metric.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millrace_telemetry::metrics::{Descriptor, Installation, Kind, Label, Program, Values};

use crate::tables::metrics;

const HEAD: &str = "| name | type | unit | labels and all their values | from | meaning | what to know, and what to do |\n\
                    |---|---|---|---|---|---|---|\n";

#[test]
fn the_page_lists_exactly_the_metrics_of_the_code() {
    let file = docs("metrics.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (before, table, after) = parts(&page);
    let updated = format!("{before}{HEAD}{}{after}", rows(&notes(table)));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, updated).unwrap();
        return;
    }
    for (number, (line, expected)) in page.lines().zip(updated.lines()).enumerate() {
        assert_eq!(line, expected, "docs/metrics.md, line {}; run this test with UPDATE_DOCS=1", number + 1);
    }
    assert_eq!(page.len(), updated.len(), "docs/metrics.md lacks rows; run this test with UPDATE_DOCS=1");
}

#[test]
fn every_link_to_the_runbook_leads_to_a_heading() {
    let read = |name: &str| std::fs::read_to_string(docs(name)).unwrap();
    let runbook = read("runbook.md");
    let headings: Vec<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let metrics = read("metrics.md");
    let links = metrics.split("](runbook.md#").skip(1).chain(runbook.split("](#").skip(1));
    let anchors: Vec<&str> = links.map(|link| link.split(')').next().unwrap()).collect();
    assert!(anchors.len() > 60, "found only {} links", anchors.len());
    for anchor in anchors {
        assert!(headings.iter().any(|heading| heading == anchor), "the runbook has no heading for #{anchor}");
    }
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    for metric in metrics() {
        let name = metric.name;
        assert!(name.starts_with("millrace_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        assert_eq!(
            metrics().iter().filter(|other| other.name == name).count(),
            1,
            "{name} is declared twice"
        );
        for label in metric.labels {
            assert!(!["project", "event", "name", "key"].contains(&label.name), "{name}: {}", label.name);
        }
    }
}

#[test]
fn each_help_is_one_line_without_a_final_period() {
    for Descriptor { name, help, .. } in metrics() {
        assert!(help.starts_with(|first: char| first.is_ascii_uppercase() || first == '1'), "{name}: {help}");
        assert!(!help.ends_with('.') && !help.contains(['\n', '|']), "{name}: {help}");
    }
}

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join(name)
}

/// The page before its first table, the table, and the rest.
fn parts(page: &str) -> (&str, &str, &str) {
    let start = page.find("| name |").expect("docs/metrics.md has a table of metrics");
    let end = page[start..].find("\n\n").map_or(page.len(), |length| start + length + 1);
    (&page[..start], &page[start..end], &page[end..])
}

/// The last column of each row, by the name of its metric.
fn notes(table: &str) -> BTreeMap<&str, &str> {
    let rows = table.lines().skip(2).map(|row| row.trim_matches(['|', ' ']).split(" | ").collect::<Vec<_>>());
    rows.filter(|cells| cells.len() == 7).map(|cells| (cells[0].trim_matches('`'), cells[6])).collect()
}

fn rows(notes: &BTreeMap<&str, &str>) -> String {
    let mut metrics = metrics();
    // A stable sort: within a group, metrics keep the order of their table.
    metrics.sort_by_key(|metric| {
        let program = match metric.program {
            Program::Api => 0,
            Program::Worker => 1,
            Program::Any => 2,
        };
        let installation = match metric.installation {
            Installation::Either => 0,
            Installation::Servers => 1,
            Installation::Files => 2,
        };
        (program, installation)
    });
    let row = |metric: &Descriptor| match notes.get(metric.name) {
        Some(note) => format!("{} | {note} |\n", generated(metric)),
        None => format!("{} | |\n", generated(metric)),
    };
    metrics.into_iter().map(row).collect()
}

/// All columns of a row except the last one.
fn generated(metric: &Descriptor) -> String {
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
        Values::Built(_) => "set at build time".to_owned(),
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
    let program = match metric.program {
        Program::Api => "ingest-api",
        Program::Worker => "stream-worker",
        Program::Any => "both",
    };
    let installation = match metric.installation {
        Installation::Either => "",
        Installation::Servers => ", on servers",
        Installation::Files => ", on files",
    };
    format!("{program}{installation}")
}
