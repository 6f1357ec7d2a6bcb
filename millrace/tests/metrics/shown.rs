//! Real processes show every metric that the table has for them, with its labels, and no others.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use ingest_api::routes;
use millrace_telemetry::metrics::{self, Descriptor, Kind, Values};
use testkit::{Program, eventually};

use crate::installation::{Installation, PATIENCE};
use crate::page::{MetricsPage, Sample};
use crate::tables;
use crate::traffic::use_everything;

#[tokio::test]
async fn on_servers_each_program_shows_its_metrics_and_no_others() {
    let installation = Installation::on_servers().await;
    installation.text(&["migrate"]).await;
    let key = installation.project("shop", "pro").await;
    let mut api = installation.program("ingest-api", &[]);
    let mut worker = installation.program("stream-worker", &[]);
    use_everything(api.address().await, &key).await;
    let servers = metrics::Installation::Servers;
    shows_exactly(api.metrics_address().await, &[metrics::Program::Api], servers).await;
    shows_exactly(worker.metrics_address().await, &[metrics::Program::Worker], servers).await;
}

#[tokio::test]
async fn on_files_the_one_process_shows_the_metrics_of_both() {
    let installation = Installation::on_files();
    let service = installation.serve().await;
    use_everything(service.address, &service.key()).await;
    let both = [metrics::Program::Api, metrics::Program::Worker];
    shows_exactly(service.metrics, &both, metrics::Installation::Files).await;
}

#[tokio::test]
async fn every_command_in_the_runbook_exists() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join("runbook.md");
    let page = std::fs::read_to_string(page).unwrap();
    let commands: BTreeSet<&str> = page.split('`').filter(|code| code.starts_with("millrace ")).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        // --help runs nothing, and still refuses unknown commands and options.
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

/// Waits until every metric is shown that these programs have on such an installation, and compares each
/// series with the table.
async fn shows_exactly(
    address: SocketAddr,
    processes: &[metrics::Program],
    installation: metrics::Installation,
) {
    let expected: BTreeSet<&str> = tables::metrics()
        .into_iter()
        .filter(|metric| metric.program == metrics::Program::Any || processes.contains(&metric.program))
        .filter(|metric| {
            metric.installation == metrics::Installation::Either
                || metric.installation == installation
                || metric.kind == Kind::Counter
        })
        .map(|metric| metric.name)
        .collect();
    let page = eventually(PATIENCE, "every metric to be shown", async || {
        let page = MetricsPage::scrape(address).await;
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
    assert_eq!(promtool_errors(&page.text), "", "promtool check metrics");
}

fn is_as_described(metric: &Descriptor, sample: &Sample) {
    let Sample { series, labels, value } = sample;
    let names: Vec<_> = labels.keys().map(String::as_str).filter(|name| *name != "le").collect();
    let described: BTreeSet<_> = metric.labels.iter().map(|label| label.name).collect();
    assert_eq!(names, described.into_iter().collect::<Vec<_>>(), "{series}");
    for label in metric.labels {
        let shown = labels[label.name].as_str();
        let is_listed = match label.values {
            Values::These(values) => values.contains(&shown),
            Values::Built(values) => values == [shown],
            Values::Routes => routes::names().contains(&shown),
        };
        assert!(is_listed, "{series}: {}={shown}", label.name);
    }
    assert!(value.is_finite(), "{series}{labels:?} is {value}");
}

/// The metric of a series. A histogram has several series.
fn metric_of(series: &str) -> &'static Descriptor {
    let ends = ["_bucket", "_sum", "_count"];
    let of_histogram = ends.iter().filter_map(|end| series.strip_suffix(end)).next();
    let is_it = |metric: &&Descriptor| match metric.kind {
        Kind::Histogram(_) => Some(metric.name) == of_histogram,
        _ => metric.name == series,
    };
    tables::metrics().into_iter().find(is_it).unwrap_or_else(|| panic!("{series} is not in the table"))
}

/// The errors that Prometheus' tool finds in a page.
fn promtool_errors(page: &str) -> String {
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}; install it (Debian: apt-get install prometheus)"));
    tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
