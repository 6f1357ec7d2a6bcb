//! Named points at which a process can be made to die or to fall silent, for drills.
//!
//! What stands at a point in the code is [`reach`], which is nothing at all unless the program was built with the
//! feature `failpoints`. In such a build the environment variable `FAILPOINTS` arms points in the syntax of the crate
//! `fail`: `FAILPOINTS="store::after_commit=2*off->1*return(kill)"` kills the process when it gets there the third time.
//! `return` takes `kill` (SIGKILL), `stop` (SIGSTOP) or `term` (SIGTERM), each to the process itself and told in the log
//! before; `sleep(ms)` and `pause` are the library's, and block the thread without a word.
//!
//! This room must never change what an ordinary build does, nor the order in which it does it.

#[cfg(feature = "failpoints")]
mod armed;

#[cfg(feature = "failpoints")]
pub use armed::{arm, reach, reach_after, reach_once_sent};

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

/// Arms the points that the environment names: none, in this build.
///
/// # Errors
/// Never, in this build.
#[cfg(not(feature = "failpoints"))]
pub const fn arm() -> Result<(), crate::config::ConfigError> {
    Ok(())
}

/// Acts when the point is armed.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn reach(_: Point) {}

/// Acts when the point is armed, after our connections, which are tasks of their own, had time to send what they were given.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub async fn reach_once_sent(_: Point) {}

/// Returns `work` as it is, so that it can be pipelined with what comes behind it. Only where this point is armed, `work`
/// is brought to its end here, and the point is reached before anything else is sent.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub async fn reach_after<T, E, F: Future<Output = Result<T, E>>>(_: Point, work: F) -> F {
    work
}
