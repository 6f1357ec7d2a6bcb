//! Protocols with one thing wrong, each a mistake that has been made somewhere.

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
    /// With the words of the breach it must lead to.
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
