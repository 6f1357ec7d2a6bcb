//! Real processes show every metric of the table that is theirs, with its labels, and nothing else; on servers and on files.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use ingest_api::routes;
use millrace_telemetry::metrics::{self, Descriptor, Installation, Kind, Values};
use tempfile::TempDir;
use testkit::{Program, eventually};

use crate::installation::{FREE_PORTS, PATIENCE, Servers, use_everything};
use crate::page::{Page, Sample};
use crate::tables;

#[tokio::test]
async fn on_servers_each_program_shows_its_metrics_and_no_others() {
    let servers = Servers::start().await;
    let key = servers.project("shop", "pro").await;
    let (mut api, mut worker) = (servers.program("ingest-api"), servers.program("stream-worker"));
    use_everything(api.address().await, &key).await;
    shows_exactly(api.metrics_address().await, &[metrics::Program::Api], Installation::Servers).await;
    shows_exactly(worker.metrics_address().await, &[metrics::Program::Worker], Installation::Servers).await;
}

#[tokio::test]
async fn on_files_the_one_process_shows_the_metrics_of_both() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").display().to_string();
    let settings = [&FREE_PORTS[..], &[("DATA_DIR", data.as_str()), ("RUST_LOG", "info")]].concat();
    let mut program = Program::start("millrace", &settings);
    let metrics = program.metrics_address().await;
    let address = program.address().await;
    program.wait_for_line("Ctrl-C stops it").await;
    let log = program.log();
    let key = log.split_whitespace().find(|word| word.starts_with("mk_")).unwrap();
    use_everything(address, key).await;
    shows_exactly(metrics, &[metrics::Program::Api, metrics::Program::Worker], Installation::Files).await;
}

#[tokio::test]
async fn every_command_of_the_runbook_is_one() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join("runbook.md");
    let page = std::fs::read_to_string(page).unwrap();
    let commands: BTreeSet<&str> = page.split('`').filter(|code| code.starts_with("millrace ")).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        // With --help nothing is done, but what is not there is refused.
        let arguments: Vec<&str> = command
            .split_whitespace()
            .skip(1)
            .map(|word| if word == "NUMBER" { "1" } else { word })
            .chain(["--help"])
            .collect();
        let finished = Program::run("millrace", &arguments, &[]).await;
        assert_eq!(finished.code, Some(0), "{command}: {finished:?}");
    }
}

/// Waits until every metric is there that these processes have in such a place, and holds each series to the table.
async fn shows_exactly(address: SocketAddr, processes: &[metrics::Program], installation: Installation) {
    let expected: BTreeSet<&str> = tables::metrics()
        .into_iter()
        .filter(|metric| metric.program == metrics::Program::Any || processes.contains(&metric.program))
        .filter(|metric| {
            metric.installation == Installation::Either
                || metric.installation == installation
                || metric.kind == Kind::Counter
        })
        .map(|metric| metric.name)
        .collect();
    let page = eventually(PATIENCE, "every metric to be shown", async || {
        let page = Page::scrape(address).await;
        let shown: BTreeSet<&str> =
            page.samples().iter().map(|sample| metric_of(&sample.series).name).collect();
        let missing: Vec<_> = expected.difference(&shown).collect();
        if missing.is_empty() { Ok(page) } else { Err(format!("{missing:?} of {processes:?}")) }
    })
    .await;
    for sample in page.samples() {
        let metric = metric_of(&sample.series);
        assert!(expected.contains(metric.name), "{} is shown by {processes:?}", metric.name);
        is_as_described(metric, &sample);
    }
    for name in expected {
        assert!(
            page.text.contains(&format!("# HELP {name} ")) && page.text.contains(&format!("# TYPE {name} ")),
            "{name}"
        );
    }
    assert_eq!(promtool_says(&page.text), "", "promtool check metrics");
}

fn is_as_described(metric: &Descriptor, sample: &Sample) {
    let Sample { series, labels, value } = sample;
    let names: Vec<_> = labels.keys().map(String::as_str).filter(|name| *name != "le").collect();
    let described: BTreeSet<_> = metric.labels.iter().map(|label| label.name).collect();
    assert_eq!(names, described.into_iter().collect::<Vec<_>>(), "{series}");
    for label in metric.labels {
        let shown = labels[label.name].as_str();
        let is_known = match label.values {
            Values::These(values) => values.contains(&shown),
            Values::Built(values) => values == [shown],
            Values::Routes => routes::names().contains(&shown),
        };
        assert!(is_known, "{series}: {}={shown}", label.name);
    }
    assert!(value.is_finite(), "{series}{labels:?} is {value}");
}

/// The metric that a series belongs to: a histogram has several.
fn metric_of(series: &str) -> &'static Descriptor {
    let ends = ["_bucket", "_sum", "_count"];
    let of_histogram = ends.iter().filter_map(|end| series.strip_suffix(end)).next();
    let is_it = |metric: &&Descriptor| match metric.kind {
        Kind::Histogram(_) => Some(metric.name) == of_histogram,
        _ => metric.name == series,
    };
    tables::metrics().into_iter().find(is_it).unwrap_or_else(|| panic!("{series} is not in the table"))
}

/// What Prometheus' own tool finds wrong with a page.
fn promtool_says(page: &str) -> String {
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}; install it (Debian: apt-get install prometheus)"));
    tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
}
