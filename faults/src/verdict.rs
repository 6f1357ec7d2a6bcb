//! What a drill found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::oracle::{Tally, Violation};

use crate::node::Node;
use crate::system::Drill;

/// Something that has to have happened for a drill to have shown anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Sight {
    /// Requests acknowledged.
    Acknowledged,
    /// Requests whose outcome the client could not know.
    Unknown,
    /// Batches acknowledged after an attempt with an unknown outcome.
    Retried,
    /// Requests over the rate.
    RateLimited,
    /// Requests over the quota.
    QuotaExceeded,
    /// Events posted again in another batch.
    Copied,
    /// Events the store counted as duplicates.
    Duplicate,
    /// Entries that the ledger knew when they were delivered again.
    Redelivered,
    /// Entries taken over from a consumer that had fallen silent.
    TakenOver,
    /// Entries another lane had settled first.
    SettledLate,
    /// Transactions that the environment stopped.
    WriteFailed,
    /// Events dead-lettered.
    DeadLettered,
    /// Requests answered 503 by name: the backlog is full.
    BacklogFull,
    /// Processes killed with a transaction open, or by a failpoint inside of one.
    KilledInTransaction,
    /// Processes killed.
    Killed,
    /// Replies that a proxy kept to itself.
    ReplyCut,
    /// Entries whose delivery was lost on the way to a worker, so that they had to be delivered again.
    DeliveryLost,
    /// Panics in a worker.
    Panicked,
    /// Weathers that a wire has been through, each until it had bitten.
    Weathered,
    /// Bodies refused, as a whole or in part, for what stood in them.
    BodyRefused,
    /// Connections to the stream that were made anew.
    Reconnected,
    /// Shards whose counters were rebuilt after Redis had been wiped.
    Rebuilt,
    /// Database sessions of workers that were ended because they were stuck.
    StuckEnded,
    /// Transactions that lost against another one: deadlocks, serialization failures.
    RaceLost,
    /// Times that a disk was full when the store wanted to write to it.
    DiskFull,
    /// Scripts that Redis had forgotten when they were called.
    ScriptForgotten,
    /// Entries with the id of another one, of another shard or of an earlier life of the stream.
    IdRepeated,
    /// Requests that were under way when their API was told to stop, and were answered.
    Drained,
    /// Requests that their client broke off.
    BrokenOff,
    /// Connections that the operating system did not let an API accept, or requests it had no memory for.
    Shed,
    /// Looks at the meters while the drill was on.
    Looked,
}

/// So many of a [`Sight`], at least.
pub type Need = (Sight, u64);

/// What a drill found.
#[derive(Clone, Default, Debug)]
pub struct Verdict {
    /// Why it could not be held on this machine, when it could not.
    pub skipped: Option<String>,
    /// Broken invariants.
    pub violations: Vec<Violation>,
    /// What did not happen, without which the drill has shown nothing.
    pub vacuous: Vec<String>,
    /// What did happen.
    pub sights: BTreeMap<Sight, u64>,
    /// From the last fault's end until nothing was left to do.
    pub quiet_after: Duration,
}

impl Verdict {
    /// A drill that this machine does not allow, and why.
    pub fn skipped(reason: impl fmt::Display) -> Self {
        Self { skipped: Some(reason.to_string()), ..Self::default() }
    }

    /// Whether every promise was kept, and put to the test.
    pub fn holds(&self) -> bool {
        self.violations.is_empty() && self.vacuous.is_empty()
    }

    /// Notes what was needed and not seen.
    pub(crate) fn demand(&mut self, needs: &[Need]) {
        for (sight, at_least) in needs {
            let seen = self.sights.get(sight).copied().unwrap_or(0);
            if seen < *at_least {
                self.vacuous.push(format!("{sight:?}: {at_least} needed, {seen} seen"));
            }
        }
    }

    /// Adds what the clients saw.
    pub(crate) fn count(&mut self, tally: &Tally) {
        let refused = |code: &str| tally.refused.get(code).copied().unwrap_or(0);
        let seen = [
            (Sight::Acknowledged, tally.acknowledged),
            (Sight::Unknown, tally.unknown),
            (Sight::Retried, tally.retried),
            (Sight::Copied, tally.copies),
            (Sight::RateLimited, refused("rate_limited")),
            (Sight::QuotaExceeded, refused("quota_exceeded")),
            (Sight::BrokenOff, refused("broken off")),
            (Sight::BacklogFull, tally.unavailable.get("backlog_full").copied().unwrap_or(0)),
            (Sight::Shed, tally.unavailable.get("overloaded").copied().unwrap_or(0)),
        ];
        for (sight, count) in seen {
            *self.sights.entry(sight).or_default() += count;
        }
    }

    /// Adds what a program has counted in all its lives.
    pub(crate) async fn count_metrics(&mut self, node: &mut Node, metrics: &[(Sight, &str)]) {
        for (sight, metric) in metrics {
            // Counters are whole numbers.
            let count = format!("{:.0}", node.metric(metric).await).parse().unwrap_or(0_u64);
            *self.sights.entry(*sight).or_default() += count;
        }
    }

    /// Copies what a broken drill leaves behind to where it can be looked at: data folders and logs.
    pub(crate) fn keep_evidence(
        &self,
        drill: &Drill,
        logs: impl IntoIterator<Item = (String, String)>,
        folders: &[PathBuf],
    ) {
        let mut logs = logs.into_iter();
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/drills");
        let place = place.join(format!("{}-{:016x}", drill.name.replace(' ', "-"), drill.seed));
        let mut keep = || {
            std::fs::create_dir_all(&place)?;
            std::fs::write(place.join("verdict.txt"), self.to_string())?;
            for (name, log) in logs.by_ref() {
                std::fs::write(place.join(name), log)?;
            }
            for folder in folders {
                std::process::Command::new("cp").arg("-r").arg(folder).arg(&place).status()?;
            }
            Ok::<(), std::io::Error>(())
        };
        match keep() {
            Ok(()) => eprintln!("what {} left behind is in {}", drill.name, place.display()),
            Err(error) => eprintln!("what {} left behind could not be kept: {error}", drill.name),
        }
    }

    /// One line for a table: what happened, and how it ended.
    pub fn seen(&self) -> String {
        if let Some(reason) = &self.skipped {
            return format!("**not run**: {reason}");
        }
        let told: Vec<_> = self
            .sights
            .iter()
            .filter(|(sight, count)| **count > 0 && **sight != Sight::Looked)
            .map(|(sight, count)| format!("{count} {}", words(*sight)))
            .collect();
        let end = if self.holds() { "all invariants hold" } else { "**broken**" };
        format!("{}; {end}, quiet after {:.1} s", told.join(", "), self.quiet_after.as_secs_f64())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seen())?;
        for violation in &self.violations {
            write!(f, "\n  broken: {violation}")?;
        }
        for missing in &self.vacuous {
            write!(f, "\n  shown nothing: {missing}")?;
        }
        Ok(())
    }
}

fn words(sight: Sight) -> &'static str {
    match sight {
        Sight::Acknowledged => "requests acknowledged",
        Sight::Unknown => "outcomes unknown",
        Sight::Retried => "retried to the end",
        Sight::RateLimited => "over the rate",
        Sight::QuotaExceeded => "over the quota",
        Sight::Copied => "events posted twice",
        Sight::Duplicate => "duplicates found",
        Sight::Redelivered => "redelivered",
        Sight::TakenOver => "taken over",
        Sight::SettledLate => "settled late",
        Sight::WriteFailed => "writes failed",
        Sight::DeadLettered => "dead-lettered",
        Sight::BacklogFull => "refused by the full backlog",
        Sight::KilledInTransaction => "killed in a transaction",
        Sight::Killed => "killed",
        Sight::ReplyCut => "replies cut",
        Sight::DeliveryLost => "deliveries lost",
        Sight::Panicked => "panics",
        Sight::Weathered => "weathers lived through",
        Sight::BodyRefused => "bodies refused",
        Sight::Reconnected => "reconnects",
        Sight::Rebuilt => "shards rebuilt",
        Sight::StuckEnded => "stuck sessions ended",
        Sight::RaceLost => "races lost",
        Sight::DiskFull => "writes to a full disk",
        Sight::ScriptForgotten => "scripts forgotten",
        Sight::IdRepeated => "entry ids repeated",
        Sight::Drained => "answered while stopping",
        Sight::BrokenOff => "broken off by the client",
        Sight::Shed => "turned away for want of memory or files",
        Sight::Looked => "looks at the meters",
    }
}
