//! A row of the table of drills.

use std::future::Future;
use std::pin::Pin;

use crate::drill::Drill;
use crate::verdict::Verdict;

/// How often a drill or a mutant runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// In every run of the tests.
    Quick,
    Nightly,
}

pub struct Row {
    /// Unique, in lower case.
    pub name: &'static str,
    /// The part that the fault hits.
    pub target: &'static str,
    /// What breaks, and at which moment.
    pub fault: &'static str,
    /// What must be true in spite of it.
    pub expected: &'static str,
    pub tier: Tier,
    pub run: fn(Drill) -> DrillRun,
}

/// A running drill. It has a thread of its own, so it need not be `Send`.
pub type DrillRun = Pin<Box<dyn Future<Output = Verdict>>>;
