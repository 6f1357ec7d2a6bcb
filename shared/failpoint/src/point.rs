//! The points, along the path of an event.

/// Where a process can be made to die, and what is true when it is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The key of a post is known; its body was perhaps not read.
    AfterAuth,
    /// The batch is packed; the stream was not asked.
    AfterValidation,
    /// The stream is trusted and is asked next, for the first time.
    BeforeAdmission,
    /// The batch is in the stream, on disk; the client has no answer.
    AfterAdmission,
    /// Entries were handed to a lane and are pending under its name; nothing of them was written.
    AfterRead,
    /// Every row was sent to the server, the end of the COPY was not.
    InsideCopy,
    /// The server has confirmed the COPY; nothing of the ledger was sent.
    AfterCopy,
    /// The server has confirmed ledger rows, undated ids and dead letters; nothing of usage was sent.
    AfterLedger,
    /// At least one dead letter is among what the server has confirmed; nothing of usage was sent.
    DeadLetterWritten,
    /// The server has confirmed usage, the last statement; COMMIT was not sent.
    BeforeCommit,
    /// The transaction is committed; its entries are still pending in the stream.
    AfterCommit,
    /// The entries have left the stream.
    AfterSettle,
    /// A day's partition was made and attached, in a transaction that is open.
    PartitionMade,
    /// A partition of events is detached for good; its rows were not counted as retired.
    PartitionDetached,
}

impl Point {
    /// All of them, along the way of an event.
    pub const ALL: [Self; 14] = [
        Self::AfterAuth,
        Self::AfterValidation,
        Self::BeforeAdmission,
        Self::AfterAdmission,
        Self::AfterRead,
        Self::InsideCopy,
        Self::AfterCopy,
        Self::AfterLedger,
        Self::DeadLetterWritten,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::AfterSettle,
        Self::PartitionMade,
        Self::PartitionDetached,
    ];

    /// As `FAILPOINTS` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfterAuth => "api::after_auth",
            Self::AfterValidation => "api::after_validation",
            Self::BeforeAdmission => "api::before_admission",
            Self::AfterAdmission => "api::after_admission",
            Self::AfterRead => "lane::after_read",
            Self::InsideCopy => "store::inside_copy",
            Self::AfterCopy => "store::after_copy",
            Self::AfterLedger => "store::after_ledger",
            Self::DeadLetterWritten => "store::dead_letter_written",
            Self::BeforeCommit => "store::before_commit",
            Self::AfterCommit => "store::after_commit",
            Self::AfterSettle => "lane::after_settle",
            Self::PartitionMade => "upkeep::partition_made",
            Self::PartitionDetached => "upkeep::partition_detached",
        }
    }
}
