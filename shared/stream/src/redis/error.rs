//! What a failed call to Redis means to the caller: was anything sent, may it have happened, is the connection good.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::StreamError;
pub(super) use crate::error::counted;

/// What a failure says about the connection it came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Health {
    /// The server answered.
    Good,
    /// This connection is lost.
    Lost,
    /// The server is silent: no connection to it can be trusted.
    Silent,
}

/// Health of the connection after this failure.
pub(super) fn health(error: &RedisError) -> Health {
    if error.is_timeout() {
        Health::Silent
    } else if matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse) || error.is_unrecoverable_error() {
        Health::Lost
    } else {
        Health::Good
    }
}

/// The meaning of a failure of a command that was sent.
pub(super) fn meaning(error: &RedisError) -> StreamError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse => StreamError::Unknown(text),
        ErrorKind::Client => StreamError::Unavailable(text),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::NoScript,
        ) => StreamError::Unavailable(text),
        ErrorKind::Server(ServerErrorKind::ReadOnly) => StreamError::Full(text),
        _ => match error.code() {
            Some("OOM" | "MISCONF" | "NOREPLICAS") => StreamError::Full(text),
            Some("BUSY" | "UNBLOCKED") => StreamError::Unavailable(text),
            _ => StreamError::Refused(text),
        },
    }
}
