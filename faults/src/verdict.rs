//! What a drill found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::oracle::{Tally, Violation};

use crate::drill::Drill;
use crate::node::Node;

/// Something that has to have happened for a drill to have shown anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Effect {
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

/// So many of a [`Effect`], at least.
pub type Need = (Effect, u64);

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
    pub effects: BTreeMap<Effect, u64>,
    /// From the last fault's end until nothing was left to do.
    pub quiet_after: Duration,
}

impl Verdict {
    /// A drill that this machine does not allow, and why.
    pub fn skipped(reason: impl fmt::Display) -> Self {
        Self { skipped: Some(reason.to_string()), ..Self::default() }
    }

    /// Whether every promise was kept and was tested.
    pub fn passed(&self) -> bool {
        self.violations.is_empty() && self.vacuous.is_empty()
    }

    /// Notes what was needed and not seen.
    pub(crate) fn demand(&mut self, needs: &[Need]) {
        for (effect, at_least) in needs {
            let seen = self.effects.get(effect).copied().unwrap_or(0);
            if seen < *at_least {
                self.vacuous.push(format!("{effect:?}: {at_least} needed, {seen} seen"));
            }
        }
    }

    /// Adds what the clients saw.
    pub(crate) fn count(&mut self, tally: &Tally) {
        let refused = |code: &str| tally.refused.get(code).copied().unwrap_or(0);
        let seen = [
            (Effect::Acknowledged, tally.acknowledged),
            (Effect::Unknown, tally.unknown),
            (Effect::Retried, tally.retried),
            (Effect::Copied, tally.copies),
            (Effect::RateLimited, refused("rate_limited")),
            (Effect::QuotaExceeded, refused("quota_exceeded")),
            (Effect::BrokenOff, refused("broken off")),
            (Effect::BacklogFull, tally.unavailable.get("backlog_full").copied().unwrap_or(0)),
            (Effect::Shed, tally.unavailable.get("overloaded").copied().unwrap_or(0)),
        ];
        for (effect, count) in seen {
            *self.effects.entry(effect).or_default() += count;
        }
    }

    /// Adds what a program has counted in all its lives.
    pub(crate) async fn count_metrics(&mut self, node: &mut Node, metrics: &[(Effect, &str)]) {
        for (effect, metric) in metrics {
            // Counters are whole numbers.
            let count = format!("{:.0}", node.metric(metric).await).parse().unwrap_or(0_u64);
            *self.effects.entry(*effect).or_default() += count;
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
    pub fn effects_text(&self) -> String {
        if let Some(reason) = &self.skipped {
            return format!("**not run**: {reason}");
        }
        let told: Vec<_> = self
            .effects
            .iter()
            .filter(|(effect, count)| **count > 0 && **effect != Effect::Looked)
            .map(|(effect, count)| format!("{count} {}", words(*effect)))
            .collect();
        let end = if self.passed() { "all invariants hold" } else { "**broken**" };
        format!("{}; {end}, quiet after {:.1} s", told.join(", "), self.quiet_after.as_secs_f64())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.effects_text())?;
        for violation in &self.violations {
            write!(f, "\n  broken: {violation}")?;
        }
        for missing in &self.vacuous {
            write!(f, "\n  shown nothing: {missing}")?;
        }
        Ok(())
    }
}

fn words(effect: Effect) -> &'static str {
    match effect {
        Effect::Acknowledged => "requests acknowledged",
        Effect::Unknown => "outcomes unknown",
        Effect::Retried => "retried to the end",
        Effect::RateLimited => "over the rate",
        Effect::QuotaExceeded => "over the quota",
        Effect::Copied => "events posted twice",
        Effect::Duplicate => "duplicates found",
        Effect::Redelivered => "redelivered",
        Effect::TakenOver => "taken over",
        Effect::SettledLate => "settled late",
        Effect::WriteFailed => "writes failed",
        Effect::DeadLettered => "dead-lettered",
        Effect::BacklogFull => "refused by the full backlog",
        Effect::KilledInTransaction => "killed in a transaction",
        Effect::Killed => "killed",
        Effect::ReplyCut => "replies cut",
        Effect::DeliveryLost => "deliveries lost",
        Effect::Panicked => "panics",
        Effect::Weathered => "weathers lived through",
        Effect::BodyRefused => "bodies refused",
        Effect::Reconnected => "reconnects",
        Effect::Rebuilt => "shards rebuilt",
        Effect::StuckEnded => "stuck sessions ended",
        Effect::RaceLost => "races lost",
        Effect::DiskFull => "writes to a full disk",
        Effect::ScriptForgotten => "scripts forgotten",
        Effect::IdRepeated => "entry ids repeated",
        Effect::Drained => "answered while stopping",
        Effect::BrokenOff => "broken off by the client",
        Effect::Shed => "turned away for want of memory or files",
        Effect::Looked => "looks at the meters",
    }
}
