//! The invariants and the violations that were found.

use std::collections::BTreeMap;
use std::fmt;

/// Violations of one invariant that are listed; the rest are counted.
const LISTED_MAX: usize = 5;

/// What must hold after every fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Invariant {
    /// I1: an acknowledged event is stored, or a dead letter if no event can be made of it.
    NothingLost,
    /// I2: no event is stored twice.
    NothingTwice,
    /// I3: every stored event was posted.
    NothingInvented,
    /// I4: an event that got only 4xx responses is not stored.
    RefusedStaysOut,
    /// I5: for each project, the ledger, the usage, the rows and the responses agree.
    TotalsAgree,
    /// I6: rates and quotas are neither exceeded nor charged without an admission.
    PlansExact,
    /// I7: an event is stored as it was sent.
    EqualAsSent,
    /// I8: soon after the faults nothing is pending and the stream still has its epoch.
    Quiet,
    /// I9: small, large and largest events pass on every shard.
    ProbesPass,
    /// I10: poison and broken calls are dead-lettered once, and nothing else is.
    PoisonSetAside,
    /// I11: connections, files, memory and consumers stay bounded.
    Bounded,
    /// I12: metered usage never decreases.
    Monotone,
    /// I13: the figures of meters equal the stored events.
    FiguresAgree,
    /// I14: limits of customers are not exceeded, and charged for the stored events alone.
    LimitsExact,
    /// I15: an event is cancelled when its cancellation was answered, and no other event is.
    CancelledOnce,
    /// I16: a threshold that was reached has one notification, which is delivered, and no other has one.
    NotifiedOnce,
}

impl Invariant {
    /// `I1` to `I16`.
    pub fn number(self) -> String {
        format!("I{}", self as u8 + 1)
    }
}

/// A violated invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    /// What was found.
    pub said: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.invariant.number(), self.invariant, self.said)
    }
}

/// Collects violations: lists the first five of each invariant and counts the rest.
#[derive(Default, Debug)]
pub struct Findings {
    listed: Vec<Violation>,
    counts: BTreeMap<Invariant, usize>,
}

impl Findings {
    pub fn add(&mut self, invariant: Invariant, said: String) {
        let count = self.counts.entry(invariant).or_default();
        *count += 1;
        if *count <= LISTED_MAX {
            self.listed.push(Violation { invariant, said });
        }
    }

    /// The listed violations, and one with the number of those not listed for each invariant that has more.
    pub fn into_violations(mut self) -> Vec<Violation> {
        for (invariant, count) in self.counts {
            if count > LISTED_MAX {
                let said = format!("and {} more", count - LISTED_MAX);
                self.listed.push(Violation { invariant, said });
            }
        }
        self.listed
    }
}
