//! A whole Millrace to be broken: servers, programs, wires, projects, and the end of a drill.

mod build;
mod finish;
mod moments;
mod tools;

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use testkit::chaos::ChaosProxy;
use testkit::oracle::{Clients, Findings, Invariant, Load, PlanLimits, Project, Targets, Watch};
use testkit::{Postgres, Redis, ServerOptions};

use crate::node::Node;
use crate::verdict::Sight;

/// The plan of the project `limited`, when nobody says otherwise.
pub(crate) const LIMITED: PlanLimits =
    PlanLimits { requests_per_minute: 1_200, burst: 20, events_per_month: Some(2_000) };

/// One drill about to be held.
#[derive(Clone, Debug)]
pub struct Drill {
    /// Its name: of a row of the matrix.
    pub name: String,
    /// What everything random in it comes from.
    pub seed: u64,
    /// The mutant to put in the product's place, by name.
    pub mutant: Option<String>,
    /// The profile whose programs are drilled.
    pub profile: String,
}

impl Drill {
    /// Randomness of its own for one purpose of this drill.
    pub fn rng(&self, purpose: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ purpose.rotate_left(32))
    }
}

/// What a system is made of.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    /// Shards of the stream.
    pub shards: u16,
    /// API processes.
    pub apis: usize,
    /// Worker processes.
    pub workers: usize,
    /// How Redis is started.
    pub redis: ServerOptions<'a>,
    /// How PostgreSQL is started.
    pub postgres: ServerOptions<'a>,
    /// Settings of the APIs besides the usual ones.
    pub api: &'a [(&'a str, &'a str)],
    /// Settings of the workers besides the usual ones.
    pub worker: &'a [(&'a str, &'a str)],
    /// A proxy between all clients and the first API; the others get no requests then.
    pub proxy_clients: bool,
    /// A proxy between the APIs and Redis.
    pub proxy_api_redis: bool,
    /// A proxy between the workers and Redis.
    pub proxy_worker_redis: bool,
    /// A proxy between the workers and PostgreSQL.
    pub proxy_worker_postgres: bool,
    /// The plan of the project `limited`. The others have no limits that a drill could reach.
    pub limited: PlanLimits,
}

impl Default for Layout<'_> {
    fn default() -> Self {
        Self {
            shards: 2,
            apis: 2,
            workers: 2,
            redis: ServerOptions::default(),
            postgres: ServerOptions::default(),
            api: &[],
            worker: &[],
            proxy_clients: false,
            proxy_api_redis: false,
            proxy_worker_redis: false,
            proxy_worker_postgres: false,
            limited: LIMITED,
        }
    }
}

/// A running Millrace. Its parts are there to be broken.
pub struct System {
    /// The drill it is made for.
    pub drill: Drill,
    /// The stream.
    pub redis: Redis,
    /// The store.
    pub postgres: Postgres,
    /// API processes.
    pub apis: Vec<Node>,
    /// Worker processes.
    pub workers: Vec<Node>,
    /// Between clients and the first API.
    pub wire_clients: Option<ChaosProxy>,
    /// Between APIs and Redis.
    pub wire_api_redis: Option<ChaosProxy>,
    /// Between workers and Redis.
    pub wire_worker_redis: Option<ChaosProxy>,
    /// Between workers and PostgreSQL.
    pub wire_worker_postgres: Option<ChaosProxy>,
    /// The projects posted for, with their limits: two without, and `limited`.
    pub projects: Vec<(Arc<Project>, PlanLimits)>,
    /// Where clients post.
    pub targets: Targets,
    shards: u16,
    /// One for each shard, posted for at the end alone.
    probes: Vec<Project>,
    epochs: Vec<String>,
    wiped: bool,
    sights: BTreeMap<Sight, u64>,
    findings: Findings,
    /// Until the drill ends.
    watch: Option<Watch>,
}

impl System {
    /// Clients that post for every project until they are handed to [`System::finish`].
    pub fn load(&self, load: Load) -> Clients {
        let projects: Vec<_> = self.projects.iter().map(|(project, _)| Arc::clone(project)).collect();
        Clients::start(&projects, &self.targets, load, self.drill.seed)
    }

    /// The same for one project alone.
    pub fn load_of(&self, project: &str, load: Load) -> Clients {
        Clients::start(&[self.project(project)], &self.targets, load, self.drill.seed)
    }

    /// One of the projects posted for: `alpha`, `beta` or `limited`.
    ///
    /// # Panics
    /// When it is none of these.
    pub fn project(&self, name: &str) -> Arc<Project> {
        let found = self.projects.iter().find(|(project, _)| project.name == name);
        Arc::clone(&found.unwrap_or_else(|| panic!("no project is called {name:?}")).0)
    }

    /// Notes what must never be, and the oracle cannot see.
    pub fn found(&mut self, invariant: Invariant, said: String) {
        self.findings.add(invariant, said);
    }

    /// Notes that something happened which no counter tells.
    pub fn saw(&mut self, sight: Sight, count: u64) {
        *self.sights.entry(sight).or_default() += count;
    }

    /// The stream is wiped on purpose: its epoch may change, and rates start afresh.
    pub fn expect_rebuild(&mut self) {
        self.wiped = true;
    }

    /// The key of a stream entry list: `{sN}:events`.
    pub fn stream_key(shard: u16) -> String {
        format!("{{s{shard}}}:events")
    }

    /// The shard of a project.
    pub fn shard_of(&self, project: &Project) -> u16 {
        u16::try_from(project.id.rem_euclid(i64::from(self.shards))).expect("less than the shards")
    }
}
