//! What a failure of SQLite means to the caller: may it have happened, and is it the disk.

use rusqlite::{Error, ErrorCode};

use crate::StreamError;

/// A failure before the end of a transaction, or of a read: nothing was changed.
pub(super) fn harmless(error: &Error) -> StreamError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::ReadOnly) => StreamError::Full(error.to_string()),
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::CannotOpen
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged,
        ) => StreamError::Unavailable(error.to_string()),
        _ => StreamError::Refused(error.to_string()),
    }
}

/// A failure of COMMIT. What found no room was not written to its end and does not count. But pages that were written and
/// could not be synced may yet be found, whole, by whoever opens the file after a crash.
pub(super) fn of_commit(error: &Error) -> StreamError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StreamError::Full(error.to_string()),
        _ => StreamError::Unknown(error.to_string()),
    }
}
