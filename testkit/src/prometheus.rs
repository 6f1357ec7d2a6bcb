//! A real Prometheus.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::daemon::{Daemon, Endpoint, Server};
use crate::http::HttpClient;
use crate::process::{find_program, mortal};

const CONFIGURATION: &str = "prometheus.yml";
const INSTALL: &str = "install Prometheus 2.42 or newer (Debian: apt-get install prometheus)";

/// A Prometheus on a free port of 127.0.0.1 that scrapes every second. Dropping it kills the server and
/// removes its files.
#[derive(Debug)]
pub struct Prometheus {
    daemon: Daemon<PrometheusServer>,
}

#[derive(Debug)]
struct PrometheusServer {
    jobs: usize,
}

impl Server for PrometheusServer {
    const NAME: &'static str = "prometheus";
    const LOG: &'static str = "prometheus.log";

    fn command(&self, endpoint: &Endpoint) -> Command {
        let folder = endpoint.folder.path();
        let mut command = mortal(&find_program("prometheus", &[], INSTALL));
        command
            .arg(format!("--config.file={}", folder.join(CONFIGURATION).display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={}", address(endpoint.port)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(endpoint.open_log::<Self>());
        command
    }

    /// Whether every job was scraped.
    async fn answers(&self, endpoint: &Endpoint, _pid: i32) -> Result<(), String> {
        let answer = HttpClient::new(address(endpoint.port)).get("/api/v1/query?query=sum(up)", &[]).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("it responds {}", answer.status));
        }
        let up = answer.json()["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
        if up == Some(self.jobs.to_string()) {
            Ok(())
        } else {
            Err(format!("{up:?} of {} jobs are up", self.jobs))
        }
    }
}

/// The time or the time range of a query, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum QueryTime {
    At(f64),
    /// Every `step_s` seconds in `from..=to`.
    Range {
        from: f64,
        to: f64,
        step_s: f64,
    },
}

/// A time series of a result.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// Names and values, including `__name__` when the series has one.
    pub labels: Vec<(String, String)>,
    /// Oldest first.
    pub samples: Vec<Sample>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// Seconds since 1970.
    pub time: f64,
    /// May be NaN or infinite.
    pub value: f64,
}

impl Prometheus {
    pub const SCRAPES_EVERY: Duration = Duration::from_secs(1);

    /// Starts a server that scrapes these jobs, and waits until it has scraped each of them once.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to install.
    pub async fn start(jobs: &[(&str, SocketAddr)]) -> Self {
        let prepare = |endpoint: &Endpoint| {
            let file = endpoint.folder.path().join(CONFIGURATION);
            std::fs::write(file, configuration(jobs)).expect("a new folder is writable");
            PrometheusServer { jobs: jobs.len() }
        };
        Self { daemon: Daemon::start(prepare).await }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The result of a PromQL query.
    ///
    /// # Errors
    /// The error of Prometheus when it rejects the query.
    ///
    /// # Panics
    /// When Prometheus does not respond.
    pub async fn ask(&self, expression: &str, time: QueryTime) -> Result<Vec<Series>, String> {
        let (path, times) = match time {
            QueryTime::At(time) => ("/api/v1/query", vec![("time", time)]),
            QueryTime::Range { from, to, step_s } => {
                ("/api/v1/query_range", vec![("start", from), ("end", to), ("step", step_s)])
            }
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("query", expression);
        form.extend_pairs(times.into_iter().map(|(name, value)| (name, value.to_string())));
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = HttpClient::new(self.address()).post(path, &headers, form.finish()).await;
        let answer =
            answer.unwrap_or_else(|error| panic!("the query {expression} to prometheus: {error}")).json();
        if answer["status"] != "success" {
            return Err(format!("{expression}: {}", answer["error"]));
        }
        Ok(answer["data"]["result"].as_array().into_iter().flatten().map(series).collect())
    }

    fn address(&self) -> SocketAddr {
        address(self.daemon.port())
    }
}

impl Series {
    /// The value of a label, empty when the series does not have it.
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(label, _)| label == name).map_or("", |(_, value)| value)
    }
}

fn configuration(jobs: &[(&str, SocketAddr)]) -> String {
    let every = Prometheus::SCRAPES_EVERY.as_secs();
    let job = |(name, address): &(&str, SocketAddr)| {
        format!("  - job_name: {name}\n    static_configs: [{{targets: ['{address}']}}]\n")
    };
    format!(
        "global: {{scrape_interval: {every}s}}\nscrape_configs:\n{}",
        jobs.iter().map(job).collect::<String>()
    )
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn series(result: &Value) -> Series {
    let labels = result["metric"].as_object().into_iter().flatten();
    let several = result["values"].as_array().into_iter().flatten();
    Series {
        labels: labels.map(|(name, value)| (name.clone(), text(value).to_owned())).collect(),
        samples: several.chain(result.get("value")).map(sample).collect(),
    }
}

fn sample(pair: &Value) -> Sample {
    let value = text(&pair[1]).parse().expect("prometheus sends sample values as numbers in strings");
    Sample { time: pair[0].as_f64().expect("prometheus sends times as numbers"), value }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("prometheus sends labels and sample values as strings")
}
