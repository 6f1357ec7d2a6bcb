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
        name: "new-batch-id-on-retry",
        wrong: "a lost answer is asked for again under another batch id",
        drill: "answers of admissions lost",
        breaks: &[Invariant::NothingTwice],
    },
    Mutant {
        name: "marker-forgotten-at-settle",
        wrong: "a batch is forgotten when it is settled",
        drill: "admission settled before it is asked for again",
        breaks: &[Invariant::NothingTwice, Invariant::BooksAgree],
    },
    Mutant {
        name: "limits-checked-before",
        wrong: "rate and quota are looked at before the admission instead of in it",
        drill: "plan exact on four apis",
        breaks: &[Invariant::PlansExact],
    },
];

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
