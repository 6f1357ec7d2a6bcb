//! The end of a drill: all faults end, the clients stop, and the oracle checks everything.

use std::time::Duration;

use testkit::oracle::{Clients, Evidence, Findings, Invariant, JudgeInput, QUIET_DEADLINE, Servers};
use testkit::wait_until_ready;
use tokio_postgres::Client;

use super::System;
use crate::ending::{CLIENTS_DEADLINE, Ending, conclude};
use crate::metric;
use crate::node::{Node, SOON};
use crate::verdict::{Effect, Need, Verdict};

/// Sessions with PostgreSQL of one program, at most.
const SESSIONS_MAX: i64 = 16;
/// Lanes of one worker on one shard, at most.
const LANES_MAX: usize = 4;
/// Metrics of workers that count effects.
pub(crate) const WORKER_EFFECTS: &[(Effect, &str)] = &[
    (Effect::Redelivered, metric::REDELIVERED),
    (Effect::TakenOver, metric::TAKEN_OVER),
    (Effect::SettledLate, metric::SETTLED_LATE),
    (Effect::WriteFailed, metric::WRITE_FAILURES),
    (Effect::Reconnected, metric::RECONNECTS),
    (Effect::Rebuilt, metric::REBUILDS),
    (Effect::StuckEnded, metric::STUCK_ENDED),
];
/// Metrics of APIs that count effects.
const API_EFFECTS: &[(Effect, &str)] =
    &[(Effect::Reconnected, metric::RECONNECTS), (Effect::Rebuilt, metric::REBUILDS)];

impl System {
    /// Ends the faults: proxies pass everything on, paused processes continue, and dead ones are started
    /// again.
    pub async fn heal(&mut self) {
        let wires =
            [&self.wire_clients, &self.wire_api_redis, &self.wire_worker_redis, &self.wire_worker_postgres];
        wires.into_iter().flatten().for_each(testkit::chaos::ChaosProxy::heal);
        self.postgres.resume();
        self.servers.heal().await;
        if !self.postgres.is_running() {
            self.postgres.restart().await;
        }
        for node in self.apis.iter_mut().chain(&mut self.workers) {
            if node.is_running() {
                node.program().resume();
            } else {
                node.start().await;
            }
        }
        self.aim().await;
        for address in self.addresses().await {
            wait_until_ready(address, SOON).await;
        }
    }

    /// Ends the drill. `needs` are the effects without which the drill proves nothing.
    pub async fn finish(mut self, clients: Clients, needs: &[Need]) -> Verdict {
        self.heal().await;
        clients.stop(CLIENTS_DEADLINE).await;
        let database = self.postgres.connect().await;
        let api = self.addresses().await[0];
        let evidence = self.evidence(&database).await;
        let watch = self.watch.take().expect("a drill ends once");
        let findings = std::mem::take(&mut self.findings);
        let subject = self.subject(&evidence, QUIET_DEADLINE);
        let mut verdict = conclude(Ending { api, subject, probes: &self.probes, watch }, findings).await;
        verdict.violations.extend(self.check_bounds(&database).await.into_violations());
        self.count_effects(&database, &mut verdict).await;
        verdict.demand(needs);
        if !verdict.passed() {
            let nodes = [("ingest-api", &self.apis), ("stream-worker", &self.workers)];
            let logs = nodes.into_iter().flat_map(|(name, nodes)| {
                nodes.iter().enumerate().map(move |(at, node)| (format!("{name}-{at}.log"), node.log()))
            });
            let mut folders = self.servers.folders();
            let databases = [Some(&self.postgres), self.old_primary.as_ref(), self.standby.as_ref()];
            folders.extend(databases.into_iter().flatten().map(testkit::Postgres::folder));
            verdict.keep_evidence(&self.drill, logs, &folders);
        }
        verdict
    }

    /// The contents of the servers, for the oracle.
    pub async fn evidence<'a>(&self, database: &'a Client) -> Servers<'a> {
        let mut redis = Vec::new();
        for shard in 0..self.shards {
            redis.push(self.servers.connect(shard).await);
        }
        Servers { database, redis }
    }

    /// The input of the oracle.
    pub fn subject<'a>(&'a self, evidence: &'a dyn Evidence, quiet_within: Duration) -> JudgeInput<'a> {
        let epochs = if self.wiped { Vec::new() } else { self.epochs.clone() };
        let named_losses = self.named_losses.clone();
        JudgeInput { evidence, projects: &self.projects, epochs, quiet_within, named_losses }
    }

    /// Checks I11.
    async fn check_bounds(&mut self, database: &Client) -> Findings {
        let mut findings = Findings::default();
        let mut broken = |text: String| findings.add(Invariant::Bounded, text);
        for (at, node) in self.apis.iter_mut().chain(&mut self.workers).enumerate() {
            node.bounds().into_iter().for_each(|text| broken(format!("program {at} {text}")));
        }
        let sessions = "SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%'
                                                            AND state_change < now() - interval '1 second')
                          FROM pg_stat_activity WHERE application_name LIKE 'millrace%'";
        let row = database.query_one(sessions, &[]).await.expect("PostgreSQL answers the oracle");
        let (sessions, idle): (i64, i64) = (row.get(0), row.get(1));
        let programs = i64::try_from(self.apis.len() + self.workers.len()).expect("there are few");
        if sessions > programs * SESSIONS_MAX {
            broken(format!("{sessions} sessions with PostgreSQL"));
        }
        if idle > 0 {
            broken(format!("{idle} transactions are left open"));
        }
        let starts: usize = self.workers.iter().map(Node::starts).sum();
        for (shard, consumers) in self.consumers().await {
            if consumers > starts * LANES_MAX {
                broken(format!("shard {shard} has {consumers} consumers of {starts} started workers"));
            }
        }
        findings
    }

    async fn count_effects(&mut self, database: &Client, verdict: &mut Verdict) {
        for (nodes, metrics) in [(&mut self.workers, WORKER_EFFECTS), (&mut self.apis, API_EFFECTS)] {
            for node in nodes {
                verdict.count_metrics(node, metrics).await;
            }
        }
        let sums = "SELECT coalesce(sum(duplicate), 0)::bigint, coalesce(sum(dead), 0)::bigint,
                           coalesce(sum(conflict), 0)::bigint FROM batches";
        let row = database.query_one(sums, &[]).await.expect("PostgreSQL answers the oracle");
        for (at, effect) in [(0, Effect::Duplicate), (1, Effect::DeadLettered), (2, Effect::Conflict)] {
            let count = u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
            *verdict.effects.entry(effect).or_default() += count;
        }
        for (effect, count) in &self.effects {
            *verdict.effects.entry(*effect).or_default() += count;
        }
    }
}
