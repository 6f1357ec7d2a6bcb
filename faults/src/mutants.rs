//! The wrong builds, and the drill that must catch each: a harness that passes one of them would pass a bug, too.

use testkit::oracle::Invariant;

use crate::matrix;
use crate::runner::{self, Held};

/// A build with one thing wrong.
pub struct Mutant {
    /// As `MILLRACE_MUTANT` calls it.
    pub name: &'static str,
    /// What is wrong with it.
    pub wrong: &'static str,
    /// The drill that must catch it, a row of the matrix.
    pub drill: &'static str,
    /// What it must be caught by: one of these at least.
    pub breaks: &'static [Invariant],
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "ack-before-commit",
        wrong: "a lane settles before it writes",
        drill: "worker killed after copy",
        breaks: &[Invariant::NothingLost],
    },
    Mutant {
        name: "counter-outside-the-transaction",
        wrong: "usage is added after COMMIT, on its own",
        drill: "worker killed after commit",
        breaks: &[Invariant::TotalsAgree],
    },
    Mutant {
        name: "no-ledger",
        wrong: "an entry that is in the ledger is written again",
        drill: "worker killed after commit",
        breaks: &[Invariant::TotalsAgree],
    },
    Mutant {
        name: "consumer-deleted-with-pending",
        wrong: "consumers are deleted whatever they hold",
        drill: "workers told to stop without postgres",
        breaks: &[Invariant::NothingLost, Invariant::Quiet],
    },
    Mutant {
        name: "poison-convicts-innocents",
        wrong: "every write that fails is held against its first entry",
        drill: "postgres away",
        breaks: &[Invariant::PoisonSetAside],
    },
    Mutant {
        name: "refund-not-gated",
        wrong: "duplicates are refunded again whenever their entry is settled again",
        drill: "settled and not told",
        breaks: &[Invariant::PlansExact],
    },
    Mutant {
        name: "everysec",
        wrong: "appendfsync everysec passes for durable",
        drill: "redis restarted without fsync",
        breaks: &[Invariant::NothingLost],
    },
    Mutant {
        name: "no-epoch-check",
        wrong: "batches are admitted to a stream that was wiped",
        drill: "redis wiped",
        breaks: &[Invariant::PlansExact],
    },
    Mutant {
        name: "maxlen",
        wrong: "the stream is trimmed as it grows",
        drill: "redis forgets all but its entries",
        breaks: &[Invariant::NothingLost],
    },
    Mutant {
        name: "group-at-the-end",
        wrong: "the consumer group is made at the end of the stream",
        drill: "redis forgets all but its entries",
        breaks: &[Invariant::NothingLost],
    },
    Mutant {
        name: "dedupe-by-stream-id",
        wrong: "the ledger knows an entry by its stream id alone",
        drill: "redis wiped and living through the same time again",
        breaks: &[Invariant::NothingLost],
    },
    Mutant {
        name: "new-batch-id-on-retry",
        wrong: "a lost answer is asked for again under another batch id",
        drill: "answers of admissions lost",
        breaks: &[Invariant::NothingTwice, Invariant::TotalsAgree],
    },
    Mutant {
        name: "marker-forgotten-at-settle",
        wrong: "a batch is forgotten when it is settled",
        drill: "admission settled before it is asked for again",
        breaks: &[Invariant::NothingTwice, Invariant::TotalsAgree],
    },
    Mutant {
        name: "limits-checked-before",
        wrong: "rate and quota are looked at before the admission instead of in it",
        drill: "plan exact on four apis",
        breaks: &[Invariant::PlansExact],
    },
    Mutant {
        name: "ack-before-commit",
        wrong: "a lane settles before it writes",
        drill: "embedded killed around the drain",
        breaks: &[Invariant::NothingLost],
    },
    Mutant {
        name: "counter-outside-the-transaction",
        wrong: "usage is added after COMMIT, on its own",
        drill: "embedded killed around commit",
        breaks: &[Invariant::TotalsAgree],
    },
];

impl Mutant {
    /// What tells it from the others: some are hunted on both kinds of installation.
    pub fn title(&self) -> String {
        if self.drill.starts_with("embedded") {
            format!("{}, embedded", self.name)
        } else {
            self.name.to_owned()
        }
    }
}

/// What became of a mutant.
pub struct Caught {
    /// Which.
    pub mutant: &'static Mutant,
    /// The drill it was put through.
    pub held: Held,
}

impl Caught {
    /// The invariants it broke, of those that it must break.
    pub fn by(&self) -> Vec<Invariant> {
        let Ok(verdict) = &self.held.verdict else { return Vec::new() };
        let mut broken: Vec<_> = verdict.violations.iter().map(|violation| violation.invariant).collect();
        broken.sort_unstable();
        broken.dedup();
        broken.retain(|invariant| self.mutant.breaks.contains(invariant));
        broken
    }
}

/// Puts a mutant through its drill.
///
/// # Panics
/// When the drill named in the table does not exist.
pub async fn hunt(mutant: &'static Mutant, seed: u64, profile: &str) -> Caught {
    let row = matrix::row(mutant.drill).unwrap_or_else(|| panic!("there is no drill {:?}", mutant.drill));
    Caught { mutant, held: runner::hold(row, seed, Some(mutant.name), profile).await }
}

impl Caught {
    /// What it was caught by, or what the drill saw instead.
    pub fn told(&self) -> String {
        let by = self.by();
        match &self.held.verdict {
            Ok(_) if !by.is_empty() => format!("caught by {by:?}"),
            Ok(verdict) => {
                format!("SEED={} not caught by any of {:?}: {verdict}", self.held.seed, self.mutant.breaks)
            }
            Err(panic) => format!("SEED={}: the drill was not held to the end: {panic}", self.held.seed),
        }
    }
}
