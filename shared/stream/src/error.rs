//! Why a call to the stream failed.

use crate::metrics;

/// Why the stream could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamError {
    /// Not connected, or the circuit breaker is open. Nothing was sent.
    #[error("the stream is unavailable: {0}")]
    Unavailable(String),
    /// Sent, but no answer came: it may or may not have happened.
    #[error("the stream did not answer in time; the outcome is unknown: {0}")]
    Unknown(String),
    /// The stream's disk or memory is full, or it is read-only: nothing was written.
    #[error("the stream takes no writes: {0}")]
    Full(String),
    /// The stream's epoch is not the one we trust; nothing was changed.
    #[error("the stream's epoch has changed")]
    EpochChanged,
    /// An answer we do not understand, or a refusal that is a defect of ours or of the set-up.
    #[error("the stream refused: {0}")]
    Refused(String),
}

/// Counts a failure on its way to the caller.
pub(crate) fn counted(error: StreamError) -> StreamError {
    metrics::stream_error(match &error {
        StreamError::Unavailable(_) => "unavailable",
        StreamError::Unknown(_) => "unknown",
        StreamError::Full(_) => "full",
        StreamError::EpochChanged => "epoch_changed",
        StreamError::Refused(_) => "refused",
    });
    error
}
