//! Why a lane must begin again: the reasons to drop what it holds.

use millrace_stream::StreamError;

use crate::settlement::TimelineChange;

/// Why a lane must drop the entries it holds and read again what is pending for it.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// An entry's day of the ledger is retired only after the entry was settled, so another lane has taken it
    /// over.
    #[error("another lane has settled an entry that this lane holds: the ledger of its day is retired")]
    OwnershipLost,
    /// What the stream has lost was not counted, and must not be committed later.
    #[error("the counters of the shard were rebuilt since this lane read its entries")]
    EpochReplaced,
    /// The stream was never trusted.
    #[error("no epoch of the shard is trusted yet")]
    NoEpoch,
    #[error(transparent)]
    TimelineChange(#[from] TimelineChange),
}
