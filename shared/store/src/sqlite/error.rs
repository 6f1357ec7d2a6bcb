//! Translates errors of SQLite into SQLSTATE codes, which both stores use. The translation uses SQLite's
//! codes alone, never the text of a message.

use rusqlite::{Error, ErrorCode, ffi};

use crate::{StoreError, WriteError};

/// Used instead of a SQLSTATE when the error is not from the database.
pub(super) const CONNECTION: &str = "connection";
/// SQLSTATE of a text that is not UTF-8.
pub(super) const NOT_TEXT: &str = "22021";
/// SQLSTATE of a time that is out of range.
pub(super) const NO_TIME: &str = "22008";

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Environment { sqlstate: sqlstate(&error).to_owned(), message: error.to_string() }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let (sqlstate, message) = (sqlstate(&error), error.to_string());
        // Resources, locks, interruptions, I/O: a repetition can succeed later.
        if ["53", "55", "57", "58"].iter().any(|class| sqlstate.starts_with(class)) {
            return Self::Unavailable(message);
        }
        Self::Refused { sqlstate: sqlstate.to_owned(), message }
    }
}

/// The runtime did not begin the work because the process is stopping.
pub(super) fn stopping() -> Error {
    let interrupted = ffi::Error::new(ffi::SQLITE_INTERRUPT);
    Error::SqliteFailure(interrupted, Some("the process is stopping".to_owned()))
}

pub(super) fn is_unique_violation(error: &Error) -> bool {
    extended_code(error) == Some(ffi::SQLITE_CONSTRAINT_UNIQUE)
}

pub(super) fn is_foreign_key_violation(error: &Error) -> bool {
    extended_code(error) == Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
}

fn extended_code(error: &Error) -> Option<i32> {
    error.sqlite_error().map(|failure| failure.extended_code)
}

fn sqlstate(error: &Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "53100",
        Some(ErrorCode::OutOfMemory) => "53200",
        Some(ErrorCode::SystemIoFailure) => "58030",
        Some(ErrorCode::CannotOpen) => "58P01",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "55P03",
        Some(ErrorCode::OperationInterrupted) => "57014",
        Some(ErrorCode::ReadOnly) => "25006",
        Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => "42501",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "XX001",
        Some(ErrorCode::ConstraintViolation) => "23000",
        Some(ErrorCode::TooBig) => "54000",
        _ => "XX000",
    }
}
