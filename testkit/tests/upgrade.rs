//! Upgrades under load, with the programs of the previous release next to those of this one: when workers are
//! replaced first, every acknowledged event is stored once and counted once. In the wrong order, workers that
//! do not know the version of an entry keep all of its bytes.
//!
//! The variable `PREVIOUS_RELEASE` names the folder with the programs of the previous release; `./test
//! nightly` builds them. Without it, the tests are reported as ignored.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libtest_mimic::{Arguments, Trial};
use testkit::oracle::{
    Clients, EventSource, History, JudgeInput, Load, PlanLimits, Project, QUIET_DEADLINE, Servers, Targets,
    judge,
};
use testkit::{Launch, Postgres, Program, Redis, eventually, http};

const VARIABLE: &str = "PREVIOUS_RELEASE";
const DEADLINE: Duration = Duration::from_secs(60);
/// Acknowledged requests between two steps.
const REQUESTS: u64 = 150;
const API_PROCESSES: usize = 2;
const STREAM: &str = "{s0}:events";
/// The previous release drops calls of SDKs that this one keeps, so none are sent.
const NO_CALLS: u32 = u32::MAX;
const UNLIMITED: PlanLimits =
    PlanLimits { requests_per_minute: 10_000_000, burst: 10_000_000, events_per_month: None };

/// A release, by the folder of its programs. `None` is this one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Release<'a>(Option<&'a Path>);

/// What is replaced.
#[derive(Clone, Copy, Debug)]
enum Part {
    Worker,
    Api,
}

#[derive(Clone, Copy)]
enum Case {
    WorkersFirst,
    TakenBack,
    ApiFirst,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let previous = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let cases = [
        ("nothing_is_lost_when_workers_are_upgraded_first", Case::WorkersFirst),
        ("nothing_is_lost_when_an_upgrade_is_taken_back", Case::TakenBack),
        ("an_old_worker_keeps_the_bytes_of_entries_that_it_does_not_know", Case::ApiFirst),
    ];
    let trials = cases.map(|(name, case)| {
        let folder = previous.clone();
        let trial = Trial::test(name, move || {
            let folder = folder.ok_or(format!("{VARIABLE} is not set"))?;
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(async {
                match case {
                    Case::WorkersFirst => upgrade(&folder, false).await,
                    Case::TakenBack => upgrade(&folder, true).await,
                    Case::ApiFirst => upgrade_api_first(&folder).await,
                }
            });
            Ok(())
        });
        match &previous {
            Some(_) => trial,
            None => trial.with_kind(format!("{VARIABLE} is not set")).with_ignored_flag(true),
        }
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// Runs the previous release under load, migrates, and replaces its workers and then its API. `back` then
/// puts the previous release in their place again.
async fn upgrade(previous: &Path, back: bool) {
    let (previous, this) = (Release(Some(previous)), Release(None));
    let mut installation = Installation::start(previous).await;
    let clients = installation.clients();
    clients.acknowledge(REQUESTS).await;
    installation.millrace(this, &["migrate"]).await;
    clients.acknowledge(REQUESTS).await;
    for part in [Part::Worker, Part::Api] {
        installation.replace(part, this).await;
        clients.acknowledge(REQUESTS).await;
    }
    if back {
        installation.replace(Part::Api, previous).await;
        clients.acknowledge(REQUESTS).await;
        installation.entries_of_this_release_are_drained().await;
        installation.replace(Part::Worker, previous).await;
        clients.acknowledge(REQUESTS).await;
    }
    clients.stop(DEADLINE).await;
    installation.must_hold().await;
}

/// An API of this release next to a worker of the previous one, which is the wrong order.
async fn upgrade_api_first(previous: &Path) {
    let (previous, this) = (Release(Some(previous)), Release(None));
    let mut installation = Installation::start(previous).await;
    installation.millrace(this, &["migrate"]).await;
    installation.replace(Part::Api, this).await;
    let clients = installation.clients();
    clients.acknowledge(REQUESTS).await;
    clients.stop(DEADLINE).await;
    installation.drains().await;

    // Appended again, every entry is stored by a worker that knows it.
    installation.replace(Part::Worker, this).await;
    let database = installation.postgres.connect().await;
    let letters = database.query("SELECT payload FROM dead_letters", &[]).await.expect("PostgreSQL answers");
    assert!(!letters.is_empty());
    for letter in letters {
        let fields = fields_of_letter(letter.get(0));
        let mut append = redis::cmd("XADD");
        append.arg(STREAM).arg("*");
        for (name, value) in fields {
            append.arg(name).arg(value);
        }
        append.exec_async(&mut installation.redis.connect().await).await.expect("Redis appends an entry");
    }
    installation.drains().await;
    database.batch_execute("DELETE FROM dead_letters").await.expect("PostgreSQL deletes rows");
    let of_no_project =
        "DELETE FROM usage_hourly WHERE project_id = 0; DELETE FROM batches WHERE project_id = 0";
    database.batch_execute(of_no_project).await.expect("PostgreSQL deletes rows");
    installation.must_hold().await;
}

/// The fields `v`, `a`, `t` and `r` of a letter of an entry, as `docs/compatibility.md` describes them.
fn fields_of_letter(payload: &[u8]) -> [(&str, &[u8]); 4] {
    let rest = payload.strip_prefix(b"v=2\na=").expect("an entry of version 2");
    let batches = rest.iter().position(|byte| *byte == b'\n').expect("a field ends");
    let (admitted, rest) = rest.split_at(batches);
    let rest = rest.strip_prefix(b"\nt=").expect("the table follows");
    let (table, rest) = rest.split_at(32 * batches);
    let rest = rest.strip_prefix(b"\nr=").expect("the rows follow");
    let rows = rest.strip_suffix(b"\n").expect("the last field ends");
    [("v", b"2"), ("a", admitted), ("t", table), ("r", rows)]
}

struct Installation {
    redis: Redis,
    postgres: Postgres,
    projects: Vec<Arc<Project>>,
    targets: Targets,
    worker: Program,
    apis: Vec<(Program, SocketAddr)>,
}

impl Installation {
    /// Servers, two projects, and every program of this release.
    async fn start(release: Release<'_>) -> Self {
        let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
        let servers = [("REDIS_URL", redis.url()), ("DATABASE_URL", postgres.url())];
        millrace(&servers, release, &["migrate"]).await;
        let rate = ["--requests-per-minute", "10000000", "--burst", "10000000"];
        let plan = [&["plan", "set", "drill"][..], &rate, &["--events-per-month", "unlimited"]].concat();
        millrace(&servers, release, &plan).await;
        let mut projects = Vec::new();
        for name in ["alpha", "beta"] {
            projects.push(Arc::new(project(&servers, release, name).await));
        }
        let worker = worker(&servers, release).await;
        let mut apis = Vec::new();
        for _ in 0..API_PROCESSES {
            apis.push(api(&servers, release).await);
        }
        let installation = Self { redis, postgres, projects, targets: Targets::default(), worker, apis };
        installation.tell_targets();
        installation
    }

    fn servers(&self) -> [(&'static str, String); 2] {
        [("REDIS_URL", self.redis.url()), ("DATABASE_URL", self.postgres.url())]
    }

    fn clients(&self) -> Clients {
        let load = Load { calls_one_in: NO_CALLS, ..Load::default() };
        Clients::start(&self.projects, &self.targets, load, 7)
    }

    fn tell_targets(&self) {
        self.targets.set(self.apis.iter().map(|(_, address)| *address).collect());
    }

    async fn millrace(&self, release: Release<'_>, arguments: &[&str]) -> String {
        millrace(&self.servers(), release, arguments).await
    }

    /// Replaces the processes of a part one after the other: the new one serves before the old one stops.
    async fn replace(&mut self, part: Part, release: Release<'_>) {
        match part {
            Part::Worker => {
                let new = worker(&self.servers(), release).await;
                let mut old = std::mem::replace(&mut self.worker, new);
                stop(&mut old).await;
            }
            Part::Api => {
                for _ in 0..API_PROCESSES {
                    let new = api(&self.servers(), release).await;
                    self.apis.push(new);
                    let (mut old, _) = self.apis.remove(0);
                    self.tell_targets();
                    stop(&mut old).await;
                }
            }
        }
    }

    /// The versions of all entries in the stream.
    async fn entries(&self) -> Vec<String> {
        let mut list = redis::cmd("XRANGE");
        list.arg(STREAM).arg("-").arg("+");
        let entries: Vec<(String, HashMap<String, Vec<u8>>)> =
            list.query_async(&mut self.redis.connect().await).await.expect("Redis answers");
        entries.iter().map(|(_, fields)| String::from_utf8_lossy(&fields["v"]).into_owned()).collect()
    }

    async fn drains(&self) {
        eventually(DEADLINE, "an empty stream", async || self.entries().await.is_empty()).await;
    }

    async fn entries_of_this_release_are_drained(&self) {
        let drained = async || self.entries().await.iter().all(|version| version == "1");
        eventually(DEADLINE, "the entries of this release to be drained", drained).await;
    }

    /// The oracle and the audit agree that nothing is lost and nothing counted twice.
    async fn must_hold(&self) {
        let database = self.postgres.connect().await;
        let evidence = Servers { database: &database, redis: vec![self.redis.connect().await] };
        let projects: Vec<_> = self.projects.iter().map(|project| (Arc::clone(project), UNLIMITED)).collect();
        let epochs = Vec::new();
        let input = JudgeInput {
            evidence: &evidence,
            projects: &projects,
            epochs,
            quiet_within: QUIET_DEADLINE,
            named_losses: None,
        };
        let (_, violations) = judge(input).await;
        assert!(violations.is_empty(), "{violations:#?}");
        let audit = self.millrace(Release(None), &["audit"]).await;
        assert!(audit.contains("The audit holds"), "{audit}");
    }
}

async fn project(servers: &[(&str, String)], release: Release<'_>, name: &str) -> Project {
    let key = format!("upgrade-key-of-{name}");
    let create = ["project", "create", name, "--plan", "drill", "--key", &key, "--json"];
    let made: serde_json::Value =
        serde_json::from_str(&millrace(servers, release, &create).await).expect("the command prints JSON");
    let id = made["project_id"].as_i64().expect("a project has a number");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let around_ms = i64::try_from(now.as_millis()).expect("it is not the far future");
    let history = History::new(EventSource::new(id.unsigned_abs(), around_ms));
    Project { id, name: name.to_owned(), key, is_by_id: false, history }
}

async fn millrace(servers: &[(&str, String)], Release(folder): Release<'_>, arguments: &[&str]) -> String {
    let variables: Vec<_> = servers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let launch = Launch { folder, arguments, variables: &variables, ..Launch::default() };
    let output = Program::run_to_end("millrace", &launch).await;
    assert_eq!(output.code, Some(0), "millrace {arguments:?}: {output:?}");
    output.stdout
}

async fn worker(servers: &[(&str, String)], release: Release<'_>) -> Program {
    let mut worker = launch("stream-worker", servers, release);
    worker.wait_for_line("lanes").await;
    worker
}

async fn api(servers: &[(&str, String)], release: Release<'_>) -> (Program, SocketAddr) {
    let mut api = launch("ingest-api", servers, release);
    let address = api.address().await;
    eventually(DEADLINE, "the API to be ready", async || {
        let answer = http::get(address, "/readyz", &[]).await;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    (api, address)
}

fn launch(name: &str, servers: &[(&str, String)], Release(folder): Release<'_>) -> Program {
    let mut variables: Vec<_> = servers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    variables.extend([
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("METRICS_ADDR", "127.0.0.1:0"),
        ("DRAIN_GRACE_MS", "300"),
    ]);
    Program::launch(name, &Launch { folder, variables: &variables, ..Launch::default() })
}

async fn stop(program: &mut Program) {
    program.terminate();
    let status = program.wait_exit().await;
    assert!(status.success(), "{status}: {}", program.log());
}
