//! A whole Millrace for a drill: servers, programs, the proxies between them, and projects.

mod build;
mod finish;
mod moments;
mod redis_servers;
mod standby;
mod tools;

use std::collections::BTreeMap;
use std::sync::Arc;

use testkit::chaos::ChaosProxy;
use testkit::oracle::{Clients, Findings, Invariant, Load, PlanLimits, Project, Targets, Watch};
use testkit::{Postgres, ServerOptions};

use crate::drill::Drill;
use crate::node::Node;
use crate::verdict::Effect;

pub(crate) use self::redis_servers::MASTERS;
pub use self::redis_servers::{RedisLayout, RedisServers};

/// The plan of the project `limited`, unless a drill sets another one.
pub(crate) const LIMITED: PlanLimits =
    PlanLimits { requests_per_minute: 1_200, burst: 20, events_per_month: Some(2_000) };

/// The parts of a system.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    pub shards: u16,
    pub apis: usize,
    pub workers: usize,
    pub redis: ServerOptions<'a>,
    /// Servers of Redis. With more than one, there can be no proxy to Redis.
    pub redis_layout: RedisLayout,
    pub postgres: ServerOptions<'a>,
    /// Follow the primary of PostgreSQL with a standby. All programs get the addresses of both, and there can
    /// be no proxy to PostgreSQL.
    pub standby: bool,
    /// Additional settings of the APIs.
    pub api: &'a [(&'a str, &'a str)],
    /// Additional settings of the workers.
    pub worker: &'a [(&'a str, &'a str)],
    /// Put a proxy between all clients and the first API. The other APIs then receive no requests.
    pub proxy_clients: bool,
    /// Put a proxy between the APIs and Redis.
    pub proxy_api_redis: bool,
    /// Put a proxy between the workers and Redis.
    pub proxy_worker_redis: bool,
    /// Put a proxy between the workers and PostgreSQL.
    pub proxy_worker_postgres: bool,
    /// Also create the project `customers`, whose customers have limits.
    pub customers: bool,
    /// The plan of the project `limited`. No drill reaches the limits of the other projects.
    pub limited: PlanLimits,
}

impl Default for Layout<'_> {
    fn default() -> Self {
        Self {
            shards: 2,
            apis: 2,
            workers: 2,
            redis: ServerOptions::default(),
            redis_layout: RedisLayout::Single,
            postgres: ServerOptions::default(),
            standby: false,
            api: &[],
            worker: &[],
            proxy_clients: false,
            proxy_api_redis: false,
            proxy_worker_redis: false,
            proxy_worker_postgres: false,
            customers: false,
            limited: LIMITED,
        }
    }
}

/// A running Millrace.
pub struct System {
    pub drill: Drill,
    pub servers: RedisServers,
    /// The primary.
    pub postgres: Postgres,
    standby: Option<Postgres>,
    /// The primary before the failover.
    old_primary: Option<Postgres>,
    pub apis: Vec<Node>,
    pub workers: Vec<Node>,
    /// The proxy between clients and the first API.
    pub wire_clients: Option<ChaosProxy>,
    /// The proxy between APIs and Redis.
    pub wire_api_redis: Option<ChaosProxy>,
    /// The proxy between workers and Redis.
    pub wire_worker_redis: Option<ChaosProxy>,
    /// The proxy between workers and PostgreSQL.
    pub wire_worker_postgres: Option<ChaosProxy>,
    /// The projects that clients post for, with their limits: `alpha` and `beta` without limits, and
    /// `limited`, `by-id`, and `customers` if the layout has it.
    pub projects: Vec<(Arc<Project>, PlanLimits)>,
    /// The addresses to which clients post.
    pub targets: Targets,
    shards: u16,
    /// One project for each shard, which receives events only at the end.
    probes: Vec<Project>,
    epochs: Vec<String>,
    wiped: bool,
    /// Acknowledged events that may be missing, because the product has named them.
    named_losses: Option<BTreeMap<i64, u64>>,
    effects: BTreeMap<Effect, u64>,
    findings: Findings,
    /// `None` after the end of the drill.
    watch: Option<Watch>,
}

impl System {
    /// Starts clients that post for every project until [`System::finish`].
    pub fn load(&self, load: Load) -> Clients {
        let projects: Vec<_> = self.projects.iter().map(|(project, _)| Arc::clone(project)).collect();
        Clients::start(&projects, &self.targets, load, self.drill.seed)
    }

    /// Starts clients that post for one project.
    pub fn load_of(&self, project: &str, load: Load) -> Clients {
        Clients::start(&[self.project(project)], &self.targets, load, self.drill.seed)
    }

    /// The project `alpha`, `beta`, `limited`, `by-id` or `customers`.
    ///
    /// # Panics
    /// When the name is another one.
    pub fn project(&self, name: &str) -> Arc<Project> {
        let found = self.projects.iter().find(|(project, _)| project.name == name);
        Arc::clone(&found.unwrap_or_else(|| panic!("no project is called {name:?}")).0)
    }

    /// Adds a violation that the oracle cannot see.
    pub fn violated(&mut self, invariant: Invariant, text: String) {
        self.findings.add(invariant, text);
    }

    /// Adds effects that no metric counts.
    pub fn note(&mut self, effect: Effect, count: u64) {
        *self.effects.entry(effect).or_default() += count;
    }

    /// Call it before the stream is wiped: its epoch may then change, and rates begin at zero.
    pub fn expect_rebuild(&mut self) {
        self.wiped = true;
    }

    /// Call it when acknowledged events were lost: exactly as many as `millrace audit` names for each project
    /// may be missing.
    pub fn expect_losses(&mut self, named: BTreeMap<i64, u64>) {
        self.named_losses = Some(named);
    }

    /// The key of the entries of a shard: `{sN}:events`.
    pub fn stream_key(shard: u16) -> String {
        format!("{{s{shard}}}:events")
    }

    pub fn shard_of(&self, project: &Project) -> u16 {
        u16::try_from(project.id.rem_euclid(i64::from(self.shards))).expect("less than the shards")
    }
}
