//! What an error of SQLite means to others, told in SQLSTATE, which is the language of both stores. Decided by SQLite's
//! codes alone, never by the words of a message.

use rusqlite::{Error, ErrorCode, ffi};

use crate::{StoreError, WriteError};

/// What stands for the SQLSTATE when the database was not asked.
pub(super) const CONNECTION: &str = "connection";
/// A text that is none.
pub(super) const NOT_TEXT: &str = "22021";
/// A time that is none.
const NO_TIME: &str = "22008";

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Environment { sqlstate: sqlstate(&error).to_owned(), message: error.to_string() }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let (sqlstate, message) = (sqlstate(&error), error.to_string());
        // Out of room, out of reach, locked, stopped: the same again can succeed later.
        if ["53", "55", "57", "58"].iter().any(|class| sqlstate.starts_with(class)) {
            return Self::Unavailable(message);
        }
        Self::Refused { sqlstate: sqlstate.to_owned(), message }
    }
}

/// An entry of a day that the ledger has retired.
pub(super) fn too_late() -> WriteError {
    WriteError::LedgerRetired
}

/// An entry that was received at no time there is.
pub(super) fn no_time(entry: millrace_event::EntryId) -> WriteError {
    let message = format!("entry {entry} was received at no time there is");
    WriteError::Environment { sqlstate: NO_TIME.to_owned(), message }
}

/// A writer that was left in the middle of a write.
pub(super) fn writer_is_spent() -> WriteError {
    let message = "an earlier write of this writer did not end; open a new one".to_owned();
    WriteError::Environment { sqlstate: CONNECTION.to_owned(), message }
}

/// WriteRequest that the runtime did not begin because the process is stopping.
pub(super) fn stopping() -> Error {
    let interrupted = ffi::Error::new(ffi::SQLITE_INTERRUPT);
    Error::SqliteFailure(interrupted, Some("the process is stopping".to_owned()))
}

/// Whether a row was refused because another one has its key.
pub(super) fn is_unique_violation(error: &Error) -> bool {
    extended_code(error) == Some(ffi::SQLITE_CONSTRAINT_UNIQUE)
}

/// Whether a row was refused because what it refers to is not there.
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
