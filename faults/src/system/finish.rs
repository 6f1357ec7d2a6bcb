//! The end of a drill: heal everything, let the clients come to an end, look at everything.

use std::time::Duration;

use testkit::oracle::{Clients, Evidence, Findings, Invariant, JudgeInput, QUIET_DEADLINE, Servers};
use tokio_postgres::Client;

use super::System;
use super::build::wait_until_ready;
use crate::ending::{CLIENTS_DEADLINE, Ending, conclude};
use crate::metric;
use crate::node::Node;
use crate::verdict::{Need, Sight, Verdict};

/// Sessions with PostgreSQL of one program, at most.
const SESSIONS_MAX: i64 = 16;
/// Lanes of one worker on one shard, at most.
const LANES_MAX: usize = 4;
/// Metrics of workers that tell what happened.
pub(crate) const WORKER_SIGHTS: &[(Sight, &str)] = &[
    (Sight::Redelivered, metric::REDELIVERED),
    (Sight::TakenOver, metric::TAKEN_OVER),
    (Sight::SettledLate, metric::SETTLED_LATE),
    (Sight::WriteFailed, metric::WRITE_FAILURES),
    (Sight::Reconnected, metric::RECONNECTS),
    (Sight::Rebuilt, metric::REBUILDS),
    (Sight::StuckEnded, metric::STUCK_ENDED),
];
/// The same of APIs.
const API_SIGHTS: &[(Sight, &str)] =
    &[(Sight::Reconnected, metric::RECONNECTS), (Sight::Rebuilt, metric::REBUILDS)];

impl System {
    /// Ends the faults: proxies let everything pass, what stands still goes on, what is dead is started again.
    pub async fn heal(&mut self) {
        let wires =
            [&self.wire_clients, &self.wire_api_redis, &self.wire_worker_redis, &self.wire_worker_postgres];
        wires.into_iter().flatten().for_each(testkit::chaos::ChaosProxy::heal);
        self.redis.resume();
        self.postgres.resume();
        if !self.redis.is_running() {
            self.redis.restart().await;
        }
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
            wait_until_ready(address).await;
        }
    }

    /// Ends the drill and tells what it has shown. `needs` is what must have happened for it to have shown anything.
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
        verdict.violations.extend(self.look_at_bounds(&database).await.into_violations());
        self.count_sights(&database, &mut verdict).await;
        verdict.demand(needs);
        if !verdict.holds() {
            let nodes = [("ingest-api", &self.apis), ("stream-worker", &self.workers)];
            let logs = nodes.into_iter().flat_map(|(name, nodes)| {
                nodes.iter().enumerate().map(move |(at, node)| (format!("{name}-{at}.log"), node.log()))
            });
            let folders = [self.redis.folder(), self.postgres.folder().to_owned()];
            verdict.keep_evidence(&self.drill, logs, &folders);
        }
        verdict
    }

    /// What the oracle looks at.
    pub async fn evidence<'a>(&self, database: &'a Client) -> Servers<'a> {
        Servers { database, redis: self.redis.connect().await, shards: self.shards }
    }

    /// What the oracle judges.
    pub fn subject<'a>(&'a self, evidence: &'a dyn Evidence, quiet_within: Duration) -> JudgeInput<'a> {
        let epochs = if self.wiped { Vec::new() } else { self.epochs.clone() };
        JudgeInput { evidence, projects: &self.projects, epochs, quiet_within }
    }

    /// I11.
    async fn look_at_bounds(&mut self, database: &Client) -> Findings {
        let mut findings = Findings::default();
        let mut broken = |said: String| findings.add(Invariant::Bounded, said);
        for (at, node) in self.apis.iter_mut().chain(&mut self.workers).enumerate() {
            node.bounds().into_iter().for_each(|said| broken(format!("program {at} {said}")));
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
            broken(format!("{idle} transactions stand open"));
        }
        let lives: usize = self.workers.iter().map(Node::lives).sum();
        for (shard, consumers) in self.consumers().await {
            if consumers > lives * LANES_MAX {
                broken(format!("shard {shard} has {consumers} consumers of {lives} lives of workers"));
            }
        }
        findings
    }

    async fn count_sights(&mut self, database: &Client, verdict: &mut Verdict) {
        for (nodes, metrics) in [(&mut self.workers, WORKER_SIGHTS), (&mut self.apis, API_SIGHTS)] {
            for node in nodes {
                verdict.count_metrics(node, metrics).await;
            }
        }
        let sums = "SELECT coalesce(sum(duplicate), 0)::bigint, coalesce(sum(dead), 0)::bigint FROM batches";
        let row = database.query_one(sums, &[]).await.expect("PostgreSQL answers the oracle");
        for (at, sight) in [(0, Sight::Duplicate), (1, Sight::DeadLettered)] {
            let count = u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
            *verdict.sights.entry(sight).or_default() += count;
        }
        for (sight, count) in &self.sights {
            *verdict.sights.entry(*sight).or_default() += count;
        }
    }
}
