//! The operator: makes plans and projects with the product's own command, as an operator does.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use testkit::oracle::{EventSource, History, PlanLimits, Project};
use testkit::{Launch, Postgres, Program, Redis};

use crate::system::Drill;

/// What a project without limits has all the same.
const UNLIMITED: PlanLimits =
    PlanLimits { requests_per_minute: 600_000, burst: 600_000, events_per_month: None };
/// Projects posted for, with their limits, and those for probes.
pub(crate) type Projects = (Vec<(Arc<Project>, PlanLimits)>, Vec<Project>);

/// Somebody with `millrace` at hand, and the settings of one installation.
pub(crate) struct Operator {
    profile: String,
    seed: u64,
    variables: Vec<(String, String)>,
}

impl Operator {
    /// Of an installation that these settings lead to.
    pub(crate) fn new(drill: &Drill, variables: &[(&str, &str)]) -> Self {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { profile: drill.profile.clone(), seed: drill.seed, variables: owned.collect() }
    }

    pub(crate) fn of_servers(drill: &Drill, redis: &Redis, postgres: &Postgres) -> Self {
        let (redis, database) = (redis.url(), postgres.url());
        Self::new(drill, &[("REDIS_URL", redis.as_str()), ("DATABASE_URL", database.as_str())])
    }

    /// Runs a command, which must succeed, and returns its JSON.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        let variables: Vec<_> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let launch = Launch {
            profile: Some(&self.profile),
            arguments: &arguments,
            variables: &variables,
            ..Launch::default()
        };
        let finished = Program::run_to_end("millrace", &launch).await;
        assert_eq!(finished.code, Some(0), "millrace {arguments:?}: {finished:?}");
        serde_json::from_str(&finished.stdout).expect("what is asked for as JSON is JSON")
    }

    /// Makes two projects without limits on neighbouring shards, `limited`, and one on each shard for probes.
    pub(crate) async fn projects(&self, limited: PlanLimits, shards: u16) -> Projects {
        for (name, limits) in [("drill", UNLIMITED), ("limited", limited)] {
            let per_minute = limits.requests_per_minute.to_string();
            let (burst, per_month) = (limits.burst.to_string(), limits.events_per_month);
            let per_month = per_month.map_or_else(|| "unlimited".to_owned(), |events| events.to_string());
            let rate = ["plan", "set", name, "--requests-per-minute", &per_minute, "--burst", &burst];
            self.run(&[&rate[..], &["--events-per-month", &per_month]].concat()).await;
        }
        let mut made = Vec::new();
        for (name, plan) in [("alpha", "drill"), ("beta", "drill"), ("limited", "limited")] {
            let limits = if plan == "limited" { limited } else { UNLIMITED };
            made.push((Arc::new(self.project(name, plan).await), limits));
        }
        let mut probes = Vec::new();
        for shard in 0..shards {
            probes.push(self.project(&format!("probe-{shard}"), "drill").await);
        }
        (made, probes)
    }

    async fn project(&self, name: &str, plan: &str) -> Project {
        let key = format!("drill-key-of-{name}");
        let made = self.run(&["project", "create", name, "--plan", plan, "--key", &key]).await;
        let id = made["project_id"].as_i64().expect("a project has a number");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        let around_ms = i64::try_from(now.as_millis()).expect("it is not the far future");
        let source = EventSource::new(self.seed ^ id.unsigned_abs().rotate_right(16), around_ms);
        Project { id, name: name.to_owned(), key, history: History::new(source) }
    }
}
