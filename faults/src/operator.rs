//! Creates plans and projects with the commands of `millrace`, as an operator does.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use testkit::oracle::{EventSource, History, PlanLimits, Project};
use testkit::{Launch, Postgres, Program, ProgramOutput};

use crate::drill::Drill;

/// Limits that no drill reaches.
const UNLIMITED: PlanLimits =
    PlanLimits { requests_per_minute: 600_000, burst: 600_000, events_per_month: None };
/// The project that recognizes events by their ids alone.
const BY_ID: &str = "by-id";
/// The meters of each project: slug, name of the events, aggregation and path of the value.
const METERS: [(&str, &str, &str, &str); 2] =
    [("amounts", "checkout", "sum", "$.amount"), ("products", "product_viewed", "unique_count", "$.n")];
/// The project whose customers have limits, and how many customers it has.
pub(crate) const CUSTOMERS: &str = "customers";
const CUSTOMER_COUNT: u32 = 3;
/// The limits of its customers: meter, customer or everybody else, period and amount.
const CUSTOMER_LIMITS: [(&str, Option<&str>, &str, &str); 4] = [
    ("orders", None, "month", "150"),
    ("orders", Some("user-1"), "month", "90"),
    ("orders", None, "day", "140"),
    ("amounts", None, "day", "1500000.25"),
];
/// Projects that clients post for, with their limits, and projects for probes.
pub(crate) type Projects = (Vec<(Arc<Project>, PlanLimits)>, Vec<Project>);

/// Runs `millrace` with the settings of one installation.
pub(crate) struct Operator {
    profile: String,
    seed: u64,
    variables: Vec<(String, String)>,
}

impl Operator {
    pub(crate) fn new(drill: &Drill, variables: &[(&str, &str)]) -> Self {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { profile: drill.profile.clone(), seed: drill.seed, variables: owned.collect() }
    }

    pub(crate) fn of_servers(drill: &Drill, redis_url: &str, postgres: &Postgres, shards: u16) -> Self {
        let (database, shards) = (postgres.url(), shards.to_string());
        Self::new(drill, &[("REDIS_URL", redis_url), ("DATABASE_URL", &database), ("STREAM_SHARDS", &shards)])
    }

    /// Runs a command, which must succeed, and returns its JSON output.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        let finished = self.finished(&arguments).await;
        assert_eq!(finished.code, Some(0), "millrace {arguments:?}: {finished:?}");
        serde_json::from_str(&finished.stdout).expect("--json prints JSON")
    }

    /// Runs a command to its end, however it ends.
    pub(crate) async fn finished(&self, arguments: &[&str]) -> ProgramOutput {
        self.finished_with(arguments, &[]).await
    }

    /// Runs a command with additional variables, such as failpoints, to its end.
    pub(crate) async fn finished_with(&self, arguments: &[&str], more: &[(&str, &str)]) -> ProgramOutput {
        let own = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let variables: Vec<_> = own.chain(more.iter().copied()).collect();
        let launch =
            Launch { profile: Some(&self.profile), arguments, variables: &variables, ..Launch::default() };
        Program::run_to_end("millrace", &launch).await
    }

    /// Starts a command and does not wait for its end.
    pub(crate) fn start(&self, arguments: &[&str]) -> Program {
        let variables: Vec<_> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let launch =
            Launch { profile: Some(&self.profile), arguments, variables: &variables, ..Launch::default() };
        Program::launch("millrace", &launch)
    }

    /// Creates two projects without limits on neighbouring shards, `limited`, `by-id`, which recognizes
    /// events by their ids alone, and one project for probes on each shard.
    pub(crate) async fn projects(&self, limited: PlanLimits, shards: u16) -> Projects {
        for (name, limits) in [("drill", UNLIMITED), ("limited", limited)] {
            let per_minute = limits.requests_per_minute.to_string();
            let (burst, per_month) = (limits.burst.to_string(), limits.events_per_month);
            let per_month = per_month.map_or_else(|| "unlimited".to_owned(), |events| events.to_string());
            let rate = ["plan", "set", name, "--requests-per-minute", &per_minute, "--burst", &burst];
            self.run(&[&rate[..], &["--events-per-month", &per_month]].concat()).await;
        }
        let mut made = Vec::new();
        for (name, plan) in [("alpha", "drill"), ("beta", "drill"), ("limited", "limited"), (BY_ID, "drill")]
        {
            let limits = if plan == "limited" { limited } else { UNLIMITED };
            made.push((Arc::new(self.project(name, plan).await), limits));
        }
        let mut probes = Vec::new();
        for shard in 0..shards {
            probes.push(self.project(&format!("probe-{shard}"), "drill").await);
        }
        (made, probes)
    }

    /// Creates the project [`CUSTOMERS`]: few customers, each with limits that a drill reaches. Its meter
    /// `orders` can be limited, and none of the others counts what it counts.
    pub(crate) async fn customers(&self) -> (Arc<Project>, PlanLimits) {
        let mut project = self.project(CUSTOMERS, "drill").await;
        project.history.source = project.history.source.clone().with_subjects(CUSTOMER_COUNT);
        let create =
            ["meter", "create", CUSTOMERS, "orders", "--event", "checkout", "--aggregation", "count"];
        self.run(&create).await;
        for (meter, subject, period, amount) in CUSTOMER_LIMITS {
            let set = ["limit", "set", CUSTOMERS, "--meter", meter, "--per", period, amount];
            let subject = subject.map_or_else(Vec::new, |subject| vec!["--subject", subject]);
            self.run(&[&set[..], &subject].concat()).await;
        }
        (Arc::new(project), UNLIMITED)
    }

    async fn project(&self, name: &str, plan: &str) -> Project {
        let key = format!("drill-key-of-{name}");
        let is_by_id = name == BY_ID;
        let dedupe = if is_by_id { "id" } else { "id-and-timestamp" };
        let create = ["project", "create", name, "--plan", plan, "--key", &key, "--dedupe", dedupe];
        let made = self.run(&create).await;
        for (slug, event, aggregation, value) in METERS {
            let create = ["meter", "create", name, slug, "--event", event, "--aggregation", aggregation];
            self.run(&[&create[..], &["--value", value]].concat()).await;
        }
        let id = made["project_id"].as_i64().expect("a project has a number");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        let around_ms = i64::try_from(now.as_millis()).expect("it is not the far future");
        let source = EventSource::new(self.seed ^ id.unsigned_abs().rotate_right(16), around_ms);
        Project { id, name: name.to_owned(), key, is_by_id, history: History::new(source) }
    }
}
