//! Classifies failed calls to Redis: whether the call may have taken effect, and whether the connection is
//! usable.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::StreamError;

/// The health of a connection after an error on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ConnectionHealth {
    /// The server answered.
    Usable,
    /// This connection is broken.
    Broken,
    /// The server is silent: no connection to it is usable.
    Silent,
}

pub(super) fn connection_health(error: &RedisError) -> ConnectionHealth {
    if error.is_timeout() {
        ConnectionHealth::Silent
    } else if matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse) || error.is_unrecoverable_error() {
        ConnectionHealth::Broken
    } else {
        ConnectionHealth::Usable
    }
}

/// The error of a command that was sent, in the terms of the stream.
pub(super) fn classify(error: &RedisError) -> StreamError {
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
