//! What real processes show to Prometheus is what `shared::metrics` says, on servers and on files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use ingest_api::routes;
use shared::metrics::{Kind, METRICS, Metric, Place, Process, Values};
use tempfile::TempDir;
use testkit::http::{get, post};
use testkit::{Postgres, Program, Redis, eventually};

/// Generous: a deadline that is met only by a defect.
const PATIENCE: Duration = Duration::from_secs(60);
const FREE_PORTS: [(&str, &str); 2] = [("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")];

/// A sample: the name of its series, its labels, its value.
struct Sample {
    series: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

#[tokio::test]
async fn on_servers_each_program_shows_its_metrics_and_no_others() {
    let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
    let (redis_url, database_url) = (redis.url(), postgres.url());
    let servers = [("REDIS_URL", redis_url.as_str()), ("DATABASE_URL", database_url.as_str())];
    let command = async |arguments: &[&str]| {
        let finished = Program::run("millrace", arguments, &servers).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished.stdout
    };
    command(&["migrate"]).await;
    let made = command(&["project", "create", "shop", "--plan", "pro", "--json"]).await;
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let mut api = Program::start("ingest-api", &[&FREE_PORTS[..], &servers].concat());
    let mut worker = Program::start("stream-worker", &[&FREE_PORTS[1..], &servers].concat());
    use_everything(api.address().await, made["key"].as_str().unwrap()).await;
    shows_exactly(api.metrics_address().await, &[Process::Api], Place::Servers).await;
    shows_exactly(worker.metrics_address().await, &[Process::Worker], Place::Servers).await;
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
    shows_exactly(metrics, &[Process::Api, Process::Worker], Place::Files).await;
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

/// Posts what is stored, what is stored already, and what is refused.
async fn use_everything(api: SocketAddr, key: &str) {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
    let body = r#"[{"name":"a","id":"1","timestamp":"2026-11-01T00:00:00Z"},{"name":""}]"#;
    eventually(PATIENCE, "events to be stored", async || {
        let answer = post(api, "/v1/events", &headers, body).await;
        (answer.status == 200).then_some(()).ok_or(format!("{answer:?}"))
    })
    .await;
    assert_eq!(post(api, "/v1/events", &headers, body).await.status, 200, "the same again");
    assert_eq!(post(api, "/v1/t", &headers, "{").await.status, 400);
    assert_eq!(get(api, "/v1/usage", &headers).await.status, 200);
    assert_eq!(get(api, "/nowhere", &[]).await.status, 404);
}

/// Waits until every metric is there that these processes have in such a place, and holds each series to the table.
async fn shows_exactly(address: SocketAddr, processes: &[Process], place: Place) {
    let expected: BTreeSet<&str> = METRICS
        .iter()
        .filter(|metric| metric.process == Process::Any || processes.contains(&metric.process))
        .filter(|metric| {
            metric.place == Place::Either || metric.place == place || metric.kind == Kind::Counter
        })
        .map(|metric| metric.name)
        .collect();
    let page = eventually(PATIENCE, "every metric to be shown", async || {
        let page = scrape(address).await;
        let shown: BTreeSet<&str> =
            samples(&page).iter().map(|sample| metric_of(&sample.series).name).collect();
        let missing: Vec<_> = expected.difference(&shown).collect();
        if missing.is_empty() { Ok(page) } else { Err(format!("{missing:?} of {processes:?}")) }
    })
    .await;
    for sample in samples(&page) {
        let metric = metric_of(&sample.series);
        assert!(expected.contains(metric.name), "{} is shown by {processes:?}", metric.name);
        is_as_described(metric, &sample);
    }
    for name in expected {
        assert!(
            page.contains(&format!("# HELP {name} ")) && page.contains(&format!("# TYPE {name} ")),
            "{name}"
        );
    }
    assert_eq!(promtool_says(&page), "", "promtool check metrics");
}

fn is_as_described(metric: &Metric, sample: &Sample) {
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
fn metric_of(series: &str) -> &'static Metric {
    let ends = ["_bucket", "_sum", "_count"];
    let of_histogram = ends.iter().filter_map(|end| series.strip_suffix(end)).next();
    let is_it = |metric: &&&Metric| match metric.kind {
        Kind::Histogram(_) => Some(metric.name) == of_histogram,
        _ => metric.name == series,
    };
    METRICS.iter().find(is_it).unwrap_or_else(|| panic!("{series} is not in the table"))
}

fn samples(page: &str) -> Vec<Sample> {
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            // A path among the labels may have braces of its own.
            let (series, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap().trim_end_matches('"');
            let labels = labels.split("\",").filter_map(|label| label.split_once("=\""));
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            Sample { series: series.to_owned(), labels, value: value.parse().unwrap() }
        })
        .collect()
}

async fn scrape(address: SocketAddr) -> String {
    let answer = get(address, "/metrics", &[]).await;
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body.to_vec()).unwrap()
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
