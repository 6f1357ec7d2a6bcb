//! Protocols with one deliberate bug. Most have a mutant of the same kind in
//! `faults/src/mutants/catalogue.rs`.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    SettledBeforeCommit,
    NoLedger,
    CountedOutside,
    GroupAtTheEnd,
    ConsumerDeleted,
    Trimmed,
    RefundNotGated,
    MarkerForgotten,
    NewBatchIdOnRetry,
}

impl Mutant {
    /// Each with the beginning of the breach that it must cause.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::SettledBeforeCommit, "lost"),
        (Self::NoLedger, "miscounted"),
        (Self::CountedOutside, "miscounted"),
        (Self::GroupAtTheEnd, "stuck"),
        (Self::ConsumerDeleted, "stuck"),
        (Self::Trimmed, "lost"),
        (Self::RefundNotGated, "refunded twice"),
        (Self::MarkerForgotten, "twice"),
        (Self::NewBatchIdOnRetry, "twice"),
    ];
}
