//! Translates errors of SQLite into SQLSTATE codes, which both stores use. The translation uses SQLite's
//! codes alone, never the text of a message.

use rusqlite::{Error, ErrorCode, ffi};

use crate::{StoreError, WriteError};

/// The name of the database file in its folder.
pub const FILE_NAME: &str = "events.db";
/// Used instead of a SQLSTATE when the error is not from the database.
pub(super) const CONNECTION: &str = "connection";
/// SQLSTATE of a file that is not an intact database.
pub(super) const DAMAGED: &str = "XX001";
/// SQLSTATE of a text that is not UTF-8.
pub(super) const NOT_TEXT: &str = "22021";
/// SQLSTATE of a time that is out of range.
pub(super) const NO_TIME: &str = "22008";

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Environment { sqlstate: sqlstate(&error).to_owned(), message: message(&error) }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let (sqlstate, message) = (sqlstate(&error), message(&error));
        // Resources, locks, interruptions, I/O: a repetition can succeed later.
        if ["53", "55", "57", "58"].iter().any(|class| sqlstate.starts_with(class)) {
            return Self::Unavailable(message);
        }
        Self::Refused { sqlstate: sqlstate.to_owned(), message }
    }
}

/// Damage is described with the file and the way out.
fn message(error: &Error) -> String {
    match is_damage(error) {
        true => format!(
            "{FILE_NAME} is damaged: {error}; stop the service, and restore the file from a backup, or move it away"
        ),
        false => error.to_string(),
    }
}

/// Whether the file is not an intact database.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// The file could not be given its name.
pub(super) fn cannot_create(error: &std::io::Error) -> Error {
    let failure = ffi::Error::new(ffi::SQLITE_CANTOPEN);
    Error::SqliteFailure(failure, Some(format!("{FILE_NAME} cannot be created: {error}")))
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
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => DAMAGED,
        Some(ErrorCode::ConstraintViolation) => "23000",
        Some(ErrorCode::TooBig) => "54000",
        _ => "XX000",
    }
}
