//! The end of a drill: heal everything, let the clients come to an end, look at everything.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use testkit::oracle::{Clients, Findings, Invariant, QUIET_DEADLINE, Subject, fill, judge, probe};
use tokio_postgres::Client;

use super::System;
use super::build::wait_until_ready;
use crate::metric;
use crate::node::Node;
use crate::verdict::{Need, Sight, Verdict};

/// How long clients that are told to stop may go on asking for batches whose fate they do not know.
pub(super) const CLIENTS_DEADLINE: Duration = Duration::from_secs(30);
/// How long the stream may take to be empty before the rest of a quota is used up.
const DRAINED_DEADLINE: Duration = Duration::from_secs(60);
/// Resident memory of one program, at most. Generous: these are debug builds.
const RESIDENT_BYTES_MAX: u64 = 512 << 20;
/// Open files of one program when all is quiet, at most.
const OPEN_FILES_MAX: usize = 128;
/// Sessions with PostgreSQL of one program, at most.
const SESSIONS_MAX: i64 = 16;
/// Lanes of one worker on one shard, at most.
const LANES_MAX: usize = 4;
/// Metrics of workers that tell what happened.
const WORKER_SIGHTS: &[(Sight, &str)] = &[
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
        let mut findings = std::mem::take(&mut self.findings);
        self.use_what_was_healed(api, &database, &mut findings).await;
        let (quiet_after, violations) = judge(self.subject(&database, QUIET_DEADLINE).await).await;
        self.look_at_bounds(&database, &mut findings).await;

        let mut verdict = Verdict { quiet_after, violations, ..Verdict::default() };
        verdict.violations.extend(findings.into_violations());
        self.count_sights(&database, &mut verdict).await;
        let watch = self.watch.take().expect("a drill ends once");
        verdict.sights.insert(Sight::Looked, watch.looks());
        verdict.violations.extend(watch.finish(&database).await);
        verdict.demand(needs);
        if !verdict.holds() {
            self.keep_evidence(&verdict);
        }
        verdict
    }

    /// What the oracle judges.
    pub async fn subject<'a>(&'a self, database: &'a Client, quiet_within: Duration) -> Subject<'a> {
        let epochs = if self.wiped { Vec::new() } else { self.epochs.clone() };
        let redis = self.redis.connect().await;
        Subject { database, redis, shards: self.shards, projects: &self.projects, epochs, quiet_within }
    }

    /// Probes on every shard, and the last events of the quota.
    async fn use_what_was_healed(&mut self, api: SocketAddr, database: &Client, findings: &mut Findings) {
        for project in &self.probes {
            probe(api, project, database, findings).await;
        }
        // What is given back for duplicates is known when they are stored.
        if !self.is_drained_soon().await {
            return;
        }
        for (project, limits) in &self.projects {
            fill(api, project, *limits, database, findings).await;
        }
    }

    /// False when the stream is not empty for a minute: that is found by the judgement.
    async fn is_drained_soon(&self) -> bool {
        let deadline = tokio::time::Instant::now() + DRAINED_DEADLINE;
        while tokio::time::Instant::now() < deadline {
            if self.entries().await == 0 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// I11.
    async fn look_at_bounds(&mut self, database: &Client, findings: &mut Findings) {
        let mut broken = |said: String| findings.add(Invariant::Bounded, said);
        for (at, node) in self.apis.iter_mut().chain(&mut self.workers).enumerate() {
            let (files, bytes) = (node.program().open_files(), node.program().resident_bytes());
            if files > OPEN_FILES_MAX {
                broken(format!("program {at} has {files} files open"));
            }
            if bytes > RESIDENT_BYTES_MAX {
                broken(format!("program {at} holds {bytes} bytes of memory"));
            }
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
    }

    async fn count_sights(&mut self, database: &Client, verdict: &mut Verdict) {
        for (project, _) in &self.projects {
            verdict.count(&project.history.tally());
        }
        for (nodes, metrics) in [(&mut self.workers, WORKER_SIGHTS), (&mut self.apis, API_SIGHTS)] {
            for node in nodes {
                for (sight, metric) in metrics {
                    // Counters are whole numbers.
                    let count = format!("{:.0}", node.metric(metric).await).parse().unwrap_or(0_u64);
                    *verdict.sights.entry(*sight).or_default() += count;
                }
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

    /// Copies what a broken drill leaves behind to where it can be looked at: data folders and logs.
    fn keep_evidence(&self, verdict: &Verdict) {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/drills");
        let place = place.join(format!("{}-{:016x}", self.drill.name.replace(' ', "-"), self.drill.seed));
        let keep = || {
            std::fs::create_dir_all(&place)?;
            std::fs::write(place.join("verdict.txt"), verdict.to_string())?;
            for (name, nodes) in [("ingest-api", &self.apis), ("stream-worker", &self.workers)] {
                for (at, node) in nodes.iter().enumerate() {
                    std::fs::write(place.join(format!("{name}-{at}.log")), node.log())?;
                }
            }
            for folder in [self.redis.folder(), self.postgres.folder()] {
                std::process::Command::new("cp").arg("-r").arg(folder).arg(&place).status()?;
            }
            Ok::<(), std::io::Error>(())
        };
        match keep() {
            Ok(()) => eprintln!("what {} left behind is in {}", self.drill.name, place.display()),
            Err(error) => eprintln!("what {} left behind could not be kept: {error}", self.drill.name),
        }
    }
}
