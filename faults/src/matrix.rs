//! The table of the drills: what is broken, when, and what must happen. The drills themselves are in [`crate::drills`].

use std::future::Future;
use std::pin::Pin;

use crate::system::Drill;
use crate::verdict::Verdict;

/// When a drill is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// With every test run.
    Quick,
    /// When there is time.
    Nightly,
}

/// A row of the table.
pub struct Row {
    /// Its name, unique, in lower case.
    pub name: &'static str,
    /// What is hit.
    pub target: &'static str,
    /// By what, and at which moment.
    pub fault: &'static str,
    /// What must happen.
    pub expected: &'static str,
    /// When it is held.
    pub tier: Tier,
    /// Holds it.
    pub hold: fn(Drill) -> Holding,
}

/// A drill being held, on a thread of its own.
pub type Holding = Pin<Box<dyn Future<Output = Verdict>>>;

/// Every drill there is, in the order of the table.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    crate::drills::ALL.iter().copied().flatten()
}

/// The row of this name.
pub fn row(name: &str) -> Option<&'static Row> {
    rows().find(|row| row.name == name)
}
