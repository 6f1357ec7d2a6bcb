//! The judgement: what must be true when the faults are over and all is quiet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tokio_postgres::Client;

use super::books::{self, Limits};
use super::client::Project;
use super::rows;

/// From the moment everything runs again to the moment nothing is left to do, at most.
pub const QUIET_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// Findings of one invariant that are told one by one; the rest are counted.
const TOLD_MAX: usize = 5;

/// What must hold, whatever happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Invariant {
    /// I1: an acknowledged event is stored.
    NothingLost,
    /// I2: no event is stored twice.
    NothingTwice,
    /// I3: what is stored was posted.
    NothingInvented,
    /// I4: an event that was only ever answered 4xx is not stored.
    RefusedStaysOut,
    /// I5: ledger = usage = rows = what clients were told, by project.
    BooksAgree,
    /// I6: rates and quotas are neither exceeded nor charged for nothing.
    PlansExact,
    /// I7: an event is stored as it was sent.
    EqualAsSent,
    /// I8: soon after the faults nothing is pending and the stream is the one it was.
    Quiet,
    /// I9: small, large and largest events pass on every shard.
    ProbesPass,
    /// I10: poison is dead-lettered once, and nothing else is.
    PoisonSetAside,
    /// I11: connections, files, memory and consumers stay bounded.
    Bounded,
    /// I12: what was metered is never taken back.
    Monotone,
}

impl Invariant {
    /// `I1` to `I12`.
    pub fn number(self) -> String {
        format!("I{}", self as u8 + 1)
    }
}

/// Something that must never be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which promise is broken.
    pub invariant: Invariant,
    /// By what.
    pub said: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.invariant.number(), self.invariant, self.said)
    }
}

/// Violations, the first few of each invariant told and the rest counted.
#[derive(Default, Debug)]
pub struct Findings {
    told: Vec<Violation>,
    counts: BTreeMap<Invariant, usize>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, invariant: Invariant, said: String) {
        let count = self.counts.entry(invariant).or_default();
        *count += 1;
        if *count <= TOLD_MAX {
            self.told.push(Violation { invariant, said });
        }
    }

    /// All of them.
    pub fn into_violations(mut self) -> Vec<Violation> {
        for (invariant, count) in self.counts {
            if count > TOLD_MAX {
                let said = format!("and {} more", count - TOLD_MAX);
                self.told.push(Violation { invariant, said });
            }
        }
        self.told
    }
}

/// What is judged.
pub struct Subject<'a> {
    /// A connection to the store.
    pub database: &'a Client,
    /// A connection to the stream.
    pub redis: MultiplexedConnection,
    /// Shards of the stream.
    pub shards: u16,
    /// Whose events were posted, and what their plans promise.
    pub projects: &'a [(Arc<Project>, Limits)],
    /// The epochs of the stream before the faults, by shard; empty when the stream was wiped on purpose, after which
    /// rates start afresh.
    pub epochs: Vec<String>,
    /// How long it may take until nothing is left to do: [`QUIET_DEADLINE`].
    pub quiet_within: Duration,
}

/// Waits until all is quiet and compares everything. Returns how long it took to be quiet, and what is wrong.
///
/// # Panics
/// When the servers cannot be asked: they must run again.
pub async fn judge(mut subject: Subject<'_>) -> (Duration, Vec<Violation>) {
    let mut findings = Findings::default();
    let quiet_after = wait_until_quiet(&mut subject, &mut findings).await;
    for (project, limits) in subject.projects {
        for said in project.history.contradictions() {
            findings.add(Invariant::BooksAgree, format!("{}: {said}", project.name));
        }
        let database = subject.database;
        let rows =
            rows::compare(database, project, &mut findings).await.expect("PostgreSQL answers the oracle");
        let ledger = books::compare(database, project, rows, &mut findings)
            .await
            .expect("PostgreSQL answers the oracle");
        let shard =
            u16::try_from(project.id.rem_euclid(i64::from(subject.shards))).expect("less than the shards");
        let life = (shard, subject.epochs.is_empty());
        let stream = (database, &mut subject.redis);
        books::compare_stream(stream, project, *limits, life, &ledger, &mut findings).await;
    }
    compare_epochs(&mut subject, &mut findings).await;
    (quiet_after, findings.into_violations())
}

async fn wait_until_quiet(subject: &mut Subject<'_>, findings: &mut Findings) -> Duration {
    let started = Instant::now();
    loop {
        let left = what_is_left(&mut subject.redis, subject.shards).await;
        if left.is_empty() || started.elapsed() > QUIET_DEADLINE {
            for said in left {
                findings.add(
                    Invariant::Quiet,
                    format!("{said}, {} s after the last fault", QUIET_DEADLINE.as_secs()),
                );
            }
            return started.elapsed();
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What the stream still holds, in words.
async fn what_is_left(redis: &mut MultiplexedConnection, shards: u16) -> Vec<String> {
    let mut left = Vec::new();
    for shard in 0..shards {
        let stream = format!("{{s{shard}}}:events");
        let entries: u64 = ask(redis, redis::cmd("XLEN").arg(&stream)).await.unwrap_or(0);
        let pending: Option<Vec<redis::Value>> =
            ask(redis, redis::cmd("XPENDING").arg(&stream).arg("workers")).await;
        let pending = match pending.as_deref() {
            Some([redis::Value::Int(count), ..]) => *count,
            _ => 0,
        };
        let hash = format!("{{s{shard}}}:shard");
        let fields = ["backlog_events", "backlog_bytes"];
        let backlog: Vec<Option<u64>> =
            ask(redis, redis::cmd("HMGET").arg(&hash).arg(&fields)).await.unwrap_or_default();
        let backlog: u64 = backlog.into_iter().flatten().sum();
        if entries > 0 || pending > 0 || backlog > 0 {
            left.push(format!("shard {shard} holds {entries} entries, {pending} pending, backlog {backlog}"));
        }
    }
    left
}

async fn ask<T: redis::FromRedisValue>(redis: &mut MultiplexedConnection, command: &redis::Cmd) -> Option<T> {
    command.query_async(redis).await.ok()
}

async fn compare_epochs(subject: &mut Subject<'_>, findings: &mut Findings) {
    for shard in 0..subject.shards {
        let key = format!("{{s{shard}}}:epoch");
        let in_stream: Option<String> = ask(&mut subject.redis, redis::cmd("GET").arg(key)).await;
        let recorded = "SELECT epoch::text FROM stream_epochs WHERE shard = $1";
        let recorded = subject.database.query_opt(recorded, &[&i32::from(shard)]).await;
        let recorded: Option<String> = recorded.expect("PostgreSQL answers the oracle").map(|row| row.get(0));
        if in_stream != recorded {
            let said =
                format!("shard {shard}: the stream's epoch is {in_stream:?}, on record is {recorded:?}");
            findings.add(Invariant::Quiet, said);
        }
        let before = subject.epochs.get(usize::from(shard));
        if before.is_some() && before != in_stream.as_ref() {
            let said = format!("shard {shard}: the epoch changed from {before:?} to {in_stream:?}");
            findings.add(Invariant::Quiet, said);
        }
    }
}
