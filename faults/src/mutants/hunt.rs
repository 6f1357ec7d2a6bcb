//! Runs a mutant through the drill that must find it.

use testkit::oracle::Invariant;

use super::catalogue::Mutant;
use crate::matrix;
use crate::runner::{self, DrillResult};

/// The result of a hunt.
pub struct Hunt {
    pub mutant: &'static Mutant,
    pub result: DrillResult,
}

/// Runs the drill of a mutant.
///
/// # Panics
/// When the drill does not exist.
pub async fn hunt(mutant: &'static Mutant, seed: u64, profile: &str) -> Hunt {
    let row = matrix::row(mutant.drill).unwrap_or_else(|| panic!("there is no drill {:?}", mutant.drill));
    Hunt { mutant, result: runner::run(row, seed, Some(mutant.name), profile).await }
}

impl Hunt {
    /// The violated invariants, of those that the mutant must violate. Empty when the drill missed it.
    pub fn caught_by(&self) -> Vec<Invariant> {
        let Ok(verdict) = &self.result.verdict else { return Vec::new() };
        let mut violated: Vec<_> = verdict.violations.iter().map(|violation| violation.invariant).collect();
        violated.sort_unstable();
        violated.dedup();
        violated.retain(|invariant| self.mutant.violates.contains(invariant));
        violated
    }

    /// One line for the log, or what the drill found instead.
    pub fn summary(&self) -> String {
        let caught_by = self.caught_by();
        let (title, seed) = (self.mutant.title(), self.result.seed);
        match &self.result.verdict {
            Ok(_) if !caught_by.is_empty() => format!("{title}: caught by {caught_by:?}"),
            Ok(verdict) => {
                format!("{title}: SEED={seed}: none of {:?} was violated: {verdict}", self.mutant.violates)
            }
            Err(panic) => format!("{title}: SEED={seed}: the drill panicked: {panic}"),
        }
    }
}
