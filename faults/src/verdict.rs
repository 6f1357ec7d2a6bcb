//! The result of a drill.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::oracle::{Tally, Violation};

use crate::drill::Drill;
use crate::node::Node;

/// An effect of a fault. A drill without the effects that it needs proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Effect {
    Acknowledged,
    /// Requests with an outcome that the client does not know.
    Unknown,
    /// Batches acknowledged after an attempt with an unknown outcome.
    Retried,
    /// Requests over the rate.
    RateLimited,
    /// Requests over the quota.
    QuotaExceeded,
    /// Requests over the limit of a customer.
    LimitExceeded,
    /// Events posted again in another batch.
    Copied,
    /// Events the store counted as duplicates.
    Duplicate,
    /// Entries that were in the ledger when they were delivered again.
    Redelivered,
    /// Entries taken over from a silent consumer.
    TakenOver,
    /// Entries that another lane had settled first.
    SettledLate,
    /// Transactions that failed because of the environment.
    WriteFailed,
    /// Events dead-lettered.
    DeadLettered,
    /// Acknowledged calls that no event can be made of.
    Undeliverable,
    /// Duplicates with another payload.
    Conflict,
    /// Requests answered 503 `backlog_full`.
    BacklogFull,
    /// Processes killed while a transaction was open.
    KilledInTransaction,
    Killed,
    /// Replies that a proxy did not pass on.
    ReplyCut,
    /// Entries that were delivered again because the reply was lost.
    DeliveryLost,
    /// Panics in a worker.
    Panicked,
    /// Weathers on a connection, each until it had an effect.
    Weathered,
    /// Request bodies refused, as a whole or in part, because of their content.
    BodyRefused,
    /// Reconnections to the stream.
    Reconnected,
    /// Shards whose counters were rebuilt.
    Rebuilt,
    /// Database sessions of workers that upkeep ended because they were stuck.
    StuckEnded,
    /// Transactions that failed because of a deadlock or could not be serialized.
    RaceLost,
    /// Writes that failed because the disk was full.
    DiskFull,
    /// Calls of scripts that Redis did not have.
    ScriptForgotten,
    /// Entries with the id of another entry, of another shard or from before the stream was wiped.
    IdRepeated,
    /// Requests that were in progress when their API began to stop, and were answered.
    Drained,
    /// Requests that their client aborted.
    Aborted,
    /// Connections that an API could not accept, or requests that it had no memory for.
    Shed,
    /// Replicas promoted in place of a primary.
    Promoted,
    /// Stored events that a standby of PostgreSQL did not have when it was promoted.
    LackedByStandby,
    /// Slots moved to another master with their keys.
    SlotMoved,
    /// Requests acknowledged by other masters while the slots of one had none.
    ServedMeanwhile,
    /// Events cancelled.
    Cancelled,
    /// Steps of backfills that ended with the death of their process.
    BackfillKilled,
    /// Notifications delivered.
    Notified,
    /// Attempts to deliver a notification that failed.
    DeliveryFailed,
    /// Acknowledged events that are missing and named by the audit.
    LostAndNamed,
    /// Readings of the metered usage during the drill.
    UsageRead,
}

/// An effect and how often it must have happened, at least.
pub type Need = (Effect, u64);

#[derive(Clone, Default, Debug)]
pub struct Verdict {
    /// Why this machine cannot run the drill.
    pub skipped: Option<String>,
    pub violations: Vec<Violation>,
    /// Needed effects that did not happen.
    pub missing: Vec<String>,
    pub effects: BTreeMap<Effect, u64>,
    /// From the end of the last fault until no work was left.
    pub quiet_after: Duration,
}

impl Verdict {
    /// A drill that this machine cannot run.
    pub fn skipped(reason: impl fmt::Display) -> Self {
        Self { skipped: Some(reason.to_string()), ..Self::default() }
    }

    /// Whether every promise was kept and was tested.
    pub fn passed(&self) -> bool {
        self.violations.is_empty() && self.missing.is_empty()
    }

    /// Adds the needed effects that did not happen.
    pub(crate) fn demand(&mut self, needs: &[Need]) {
        for (effect, at_least) in needs {
            let seen = self.effects.get(effect).copied().unwrap_or(0);
            if seen < *at_least {
                self.missing.push(format!("{effect:?}: {seen}, but {at_least} are needed"));
            }
        }
    }

    /// Adds the effects that clients have seen.
    pub(crate) fn count(&mut self, tally: &Tally) {
        let refused = |code: &str| tally.refused.get(code).copied().unwrap_or(0);
        let seen = [
            (Effect::Acknowledged, tally.acknowledged),
            (Effect::Unknown, tally.unknown),
            (Effect::Retried, tally.retried),
            (Effect::Copied, tally.copies),
            (Effect::Undeliverable, tally.undeliverable),
            (Effect::RateLimited, refused("rate_limited")),
            (Effect::QuotaExceeded, refused("quota_exceeded")),
            (Effect::LimitExceeded, refused("limit_exceeded")),
            (Effect::Aborted, refused("broken off")),
            (Effect::BacklogFull, tally.unavailable.get("backlog_full").copied().unwrap_or(0)),
            (Effect::Shed, tally.unavailable.get("overloaded").copied().unwrap_or(0)),
        ];
        for (effect, count) in seen {
            *self.effects.entry(effect).or_default() += count;
        }
    }

    /// Adds the effects that a program has counted in all its runs.
    pub(crate) async fn count_metrics(&mut self, node: &mut Node, metrics: &[(Effect, &str)]) {
        for (effect, metric) in metrics {
            // Counters are whole numbers.
            let count = format!("{:.0}", node.metric(metric).await).parse().unwrap_or(0_u64);
            *self.effects.entry(*effect).or_default() += count;
        }
    }

    /// Copies the data folders and logs of a failed drill to `target/drills`. A mutant must fail, so nothing
    /// is copied for it.
    pub(crate) fn keep_evidence(
        &self,
        drill: &Drill,
        logs: impl IntoIterator<Item = (String, String)>,
        folders: &[PathBuf],
    ) {
        if drill.mutant.is_some() {
            return;
        }
        let mut logs = logs.into_iter();
        let name = format!("{}-{:016x}", drill.name.replace(' ', "-"), drill.seed);
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/drills").join(name);
        let mut keep = || {
            std::fs::create_dir_all(&target)?;
            std::fs::write(target.join("verdict.txt"), self.to_string())?;
            for (name, log) in logs.by_ref() {
                std::fs::write(target.join(name), log)?;
            }
            for folder in folders {
                std::process::Command::new("cp").arg("-r").arg(folder).arg(&target).status()?;
            }
            Ok::<(), std::io::Error>(())
        };
        match keep() {
            Ok(()) => eprintln!("the evidence of {} is in {}", drill.name, target.display()),
            Err(error) => eprintln!("the evidence of {} cannot be copied: {error}", drill.name),
        }
    }

    /// One line for a table.
    pub fn effects_text(&self) -> String {
        if let Some(reason) = &self.skipped {
            return format!("**not run**: {reason}");
        }
        let effects: Vec<_> = self
            .effects
            .iter()
            .filter(|(effect, count)| **count > 0 && **effect != Effect::UsageRead)
            .map(|(effect, count)| format!("{count} {}", label(*effect)))
            .collect();
        let end = if self.passed() { "all invariants hold" } else { "**failed**" };
        format!("{}; {end}, quiet after {:.1} s", effects.join(", "), self.quiet_after.as_secs_f64())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.effects_text())?;
        for violation in &self.violations {
            write!(f, "\n  violated: {violation}")?;
        }
        for missing in &self.missing {
            write!(f, "\n  proves nothing: {missing}")?;
        }
        Ok(())
    }
}

fn label(effect: Effect) -> &'static str {
    match effect {
        Effect::Acknowledged => "requests acknowledged",
        Effect::Unknown => "outcomes unknown",
        Effect::Retried => "retried until known",
        Effect::RateLimited => "over the rate",
        Effect::QuotaExceeded => "over the quota",
        Effect::LimitExceeded => "over the limit of a customer",
        Effect::Copied => "events posted twice",
        Effect::Duplicate => "duplicates found",
        Effect::Redelivered => "redelivered",
        Effect::TakenOver => "taken over",
        Effect::SettledLate => "settled late",
        Effect::WriteFailed => "writes failed",
        Effect::DeadLettered => "dead-lettered",
        Effect::Undeliverable => "undeliverable calls",
        Effect::Conflict => "conflicts",
        Effect::BacklogFull => "refused by the full backlog",
        Effect::KilledInTransaction => "killed in a transaction",
        Effect::Killed => "killed",
        Effect::ReplyCut => "replies cut",
        Effect::DeliveryLost => "deliveries lost",
        Effect::Panicked => "panics",
        Effect::Weathered => "weathers",
        Effect::BodyRefused => "bodies refused",
        Effect::Reconnected => "reconnects",
        Effect::Rebuilt => "shards rebuilt",
        Effect::StuckEnded => "stuck sessions ended",
        Effect::RaceLost => "races lost",
        Effect::DiskFull => "writes to a full disk",
        Effect::ScriptForgotten => "scripts forgotten",
        Effect::IdRepeated => "entry ids repeated",
        Effect::Drained => "answered while stopping",
        Effect::Aborted => "aborted by the client",
        Effect::Shed => "refused for lack of memory or files",
        Effect::Promoted => "replicas promoted",
        Effect::LackedByStandby => "stored events that the promoted standby lacked",
        Effect::SlotMoved => "slots moved",
        Effect::ServedMeanwhile => "acknowledged by other masters meanwhile",
        Effect::Cancelled => "events cancelled",
        Effect::BackfillKilled => "backfills killed",
        Effect::Notified => "notifications delivered",
        Effect::DeliveryFailed => "deliveries failed",
        Effect::LostAndNamed => "events lost and named",
        Effect::UsageRead => "readings of usage",
    }
}
