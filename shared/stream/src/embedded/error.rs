//! Classifies errors of SQLite: whether the change may have taken effect, and whether the disk is the cause.

use rusqlite::{Error, ErrorCode};

use crate::StreamError;

/// The name of the file in its folder.
pub const FILE: &str = "stream.db";

/// An error of a read, or of a write before its COMMIT: nothing was changed.
pub(super) fn classify(error: &Error) -> StreamError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => full(error),
        Some(ErrorCode::ReadOnly) => {
            StreamError::ReadOnly(format!("{FILE} or its disk is read-only: {error}"))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StreamError::Refused(format!(
            "{FILE} is damaged: {error}; stop the service, and restore the file or move it away"
        )),
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

/// An error of COMMIT. A transaction that found no room on the disk is incomplete and does not count. After
/// any other error the pages may be complete without being synced, and the process that opens the file after
/// a crash may find the transaction in it.
pub(super) fn classify_commit(error: &Error) -> StreamError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => full(error),
        _ => StreamError::Unknown(error.to_string()),
    }
}

fn full(error: &Error) -> StreamError {
    StreamError::Full(format!("the disk of {FILE} is full: {error}"))
}
