//! Wrong builds, for drills: a harness that lets one of these pass has a hole.
//!
//! Each mutant has one thing wrong. A program built with the feature `mutants` is the one that the environment variable
//! `MILLRACE_MUTANT` names, or right when it names none. In an ordinary build [`is`] is a constant `false`, and the
//! compiler removes what stands behind it.

#[cfg(feature = "mutants")]
mod chosen;

#[cfg(feature = "mutants")]
pub use chosen::{choose, is, text};

/// What can be wrong, and which promise that breaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A lane settles before it writes. What dies in between is lost.
    AckBeforeCommit,
    /// `appendfsync everysec` passes for durable. Redis then answers before the disk has it.
    Everysec,
    /// The ledger knows an entry by its stream id alone. An entry of another shard, or of another life of Redis, that has
    /// the same id is taken for written, and lost.
    DedupeByStreamId,
    /// Usage is added after COMMIT, on its own. What dies in between is stored and never metered.
    CounterOutsideTransaction,
    /// An entry that is in the ledger is written again. Its events are metered twice, as duplicates.
    NoLedger,
    /// The consumer group is made at the end of the stream instead of its beginning. What stands in it is never delivered.
    GroupAtTheEnd,
    /// Consumers are deleted whatever they hold, such as those of lanes that stop while the database is away. What they
    /// held is never delivered again.
    ConsumerDeletedWithPending,
    /// The stream is trimmed as it grows. What the workers have not read is lost.
    Maxlen,
    /// A lost answer is asked for again under another batch id. The batch is admitted, charged and stored twice.
    NewBatchIdOnRetry,
    /// Duplicates are refunded again when an entry is settled again. The month admits more than the plan allows.
    RefundNotGated,
    /// A batch is forgotten when it is settled. Who repeats it, having lost the answer, is charged again.
    MarkerForgottenAtSettle,
    /// Batches are admitted to a stream that was wiped. The month begins anew in the middle of it.
    NoEpochCheck,
    /// Rate and quota are looked at before the admission instead of in it. Requests at once pass together.
    LimitsCheckedBefore,
    /// Every write that fails is held against its first entry. An outage of the database sends good events to the dead
    /// letters.
    PoisonConvictsInnocents,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::AckBeforeCommit,
        Self::Everysec,
        Self::DedupeByStreamId,
        Self::CounterOutsideTransaction,
        Self::NoLedger,
        Self::GroupAtTheEnd,
        Self::ConsumerDeletedWithPending,
        Self::Maxlen,
        Self::NewBatchIdOnRetry,
        Self::RefundNotGated,
        Self::MarkerForgottenAtSettle,
        Self::NoEpochCheck,
        Self::LimitsCheckedBefore,
        Self::PoisonConvictsInnocents,
    ];

    /// As `MILLRACE_MUTANT` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::Everysec => "everysec",
            Self::DedupeByStreamId => "dedupe-by-stream-id",
            Self::CounterOutsideTransaction => "counter-outside-the-transaction",
            Self::NoLedger => "no-ledger",
            Self::GroupAtTheEnd => "group-at-the-end",
            Self::ConsumerDeletedWithPending => "consumer-deleted-with-pending",
            Self::Maxlen => "maxlen",
            Self::NewBatchIdOnRetry => "new-batch-id-on-retry",
            Self::RefundNotGated => "refund-not-gated",
            Self::MarkerForgottenAtSettle => "marker-forgotten-at-settle",
            Self::NoEpochCheck => "no-epoch-check",
            Self::LimitsCheckedBefore => "limits-checked-before",
            Self::PoisonConvictsInnocents => "poison-convicts-innocents",
        }
    }
}

/// Chooses the mutant that the environment names: none, in this build.
///
/// # Errors
/// Never, in this build.
#[cfg(not(feature = "mutants"))]
pub const fn choose() -> Result<(), crate::setting::UnknownSetting> {
    Ok(())
}

/// Whether this program is to have this wrong.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is(_: Mutant) -> bool {
    false
}

/// A script or a statement, by its name, as this program is to use it.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn text<'a>(_: &str, right: &'a str) -> std::borrow::Cow<'a, str> {
    std::borrow::Cow::Borrowed(right)
}
