//! A real Prometheus.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::eventually;
use crate::folder::Folder;
use crate::http::HttpClient;
use crate::server::{Process, free_port, mortal, program};

const START_DEADLINE: Duration = Duration::from_secs(60);
/// Ports are chosen at random among free ones; losing this many races in a row is a sign of something else.
const START_ATTEMPTS: usize = 5;
const LOG: &str = "prometheus.log";
const INSTALL: &str = "install Prometheus 2.42 or newer (Debian: apt-get install prometheus)";

/// A Prometheus of one's own, on a free port of 127.0.0.1, that scrapes every second; stopped and removed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    // Dropped in this order: the server must be gone before its folder.
    _process: Process,
    _folder: Folder,
    address: SocketAddr,
}

/// At which moment a question is asked, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum QueryTime {
    /// One.
    At(f64),
    /// Every `step_s` from the first to the last.
    Range {
        /// The first.
        from: f64,
        /// The last.
        to: f64,
        /// The distance between two.
        step_s: f64,
    },
}

/// One series of an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// Its labels, `__name__` among them when it has one.
    pub labels: Vec<(String, String)>,
    /// Its samples, oldest first.
    pub samples: Vec<Sample>,
}

/// One sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// In seconds since 1970.
    pub time: f64,
    /// It may be no number.
    pub value: f64,
}

impl Prometheus {
    /// How often it scrapes.
    pub const SCRAPES_EVERY: Duration = Duration::from_secs(1);

    /// Starts one that scrapes these jobs, and waits until it has read each of them once.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to install.
    pub async fn start(jobs: &[(&str, SocketAddr)]) -> Self {
        let executable = program("prometheus", &[], INSTALL);
        for _ in 0..START_ATTEMPTS {
            let (folder, address) = (Folder::create(), SocketAddr::from(([127, 0, 0, 1], free_port())));
            let settings = folder.path().join("prometheus.yml");
            std::fs::write(&settings, configuration(jobs)).expect("a file can be written in our own folder");
            let log = std::fs::File::create(folder.path().join(LOG)).expect("a log can be made there, too");
            let mut command = mortal(&executable);
            command
                .arg(format!("--config.file={}", settings.display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log);
            let mut process = Process::start(command);
            if is_scraping(&mut process, address, jobs.len()).await {
                return Self { _process: process, _folder: folder, address };
            }
            let log = std::fs::read_to_string(folder.path().join(LOG)).unwrap_or_default();
            assert!(log.contains("address already in use"), "prometheus did not start:\n{log}");
        }
        panic!("prometheus found its port taken {START_ATTEMPTS} times in a row")
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The answer to a question in PromQL.
    ///
    /// # Errors
    /// What Prometheus says of a question that it cannot answer.
    ///
    /// # Panics
    /// When it does not answer at all.
    pub async fn ask(&self, expression: &str, asked: QueryTime) -> Result<Vec<Series>, String> {
        let (path, moments) = match asked {
            QueryTime::At(time) => ("/api/v1/query", vec![("time", time)]),
            QueryTime::Range { from, to, step_s } => {
                ("/api/v1/query_range", vec![("start", from), ("end", to), ("step", step_s)])
            }
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("query", expression);
        form.extend_pairs(moments.into_iter().map(|(name, value)| (name, value.to_string())));
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = HttpClient::new(self.address).post(path, &headers, form.finish()).await;
        let answer = answer.unwrap_or_else(|error| panic!("prometheus, asked {expression}: {error}")).json();
        if answer["status"] != "success" {
            return Err(format!("{expression}: {}", answer["error"]));
        }
        Ok(answer["data"]["result"].as_array().into_iter().flatten().map(series).collect())
    }
}

impl Series {
    /// The value of a label, empty when it has none of that name.
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

/// Waits until every job was read; false when the process has ended instead.
async fn is_scraping(process: &mut Process, address: SocketAddr, jobs: usize) -> bool {
    eventually(START_DEADLINE, "prometheus to scrape", async || {
        if process.exit().is_some() {
            return Ok(false);
        }
        let answer = HttpClient::new(address).get("/api/v1/query?query=sum(up)", &[]).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("it answers {}", answer.status));
        }
        let up = answer.json()["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
        if up == Some(jobs.to_string()) { Ok(true) } else { Err(format!("{up:?} of {jobs} jobs are up")) }
    })
    .await
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
    let value = text(&pair[1]).parse().expect("prometheus writes samples as numbers in text");
    Sample { time: pair[0].as_f64().expect("prometheus writes times as numbers"), value }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("prometheus writes labels and samples as text")
}
