//! What a failed statement means. Decided by SQLSTATE alone, never by the words of a message.
//!
//! Nothing here repeats event data: of what the database says, only the message and the place in the COPY are kept;
//! detail, hint and the JSON fragments of its context are left behind.

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::{StoreError, WriteError};

/// What stands for the SQLSTATE when the database did not get to say one.
pub(super) const CONNECTION: &str = "connection";

/// Why a statement of a writer failed, as far as the writer must tell causes apart.
#[derive(Debug)]
pub(super) enum Cause {
    /// A row of the COPY has the key of a row that is in `events`.
    Duplicate,
    /// The database refuses a row of the COPY for what is in it.
    Data(Refusal),
    /// The transaction lost against another one; the same again can succeed at once.
    Race(Failure),
    /// There is no partition for the day.
    NoPartition(Failure),
    /// Anything else: not the data's fault.
    Environment(Failure),
}

/// What the database has against a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    /// Which row of the COPY, from 1, when the database names it.
    pub(super) line: Option<u64>,
    /// SQLSTATE.
    pub(super) sqlstate: String,
    /// For operators.
    pub(super) reason: String,
}

/// What the database said, without data of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    /// SQLSTATE, or [`CONNECTION`].
    pub(super) sqlstate: String,
    /// In its words.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(sqlstate: &str, message: impl Into<String>) -> Self {
        Self { sqlstate: sqlstate.to_owned(), message: message.into() }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        match error.as_db_error() {
            Some(refused) => Self::new(refused.code().code(), refused.message()),
            None => Self::new(CONNECTION, connection_message(error)),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> Self {
        if failure.sqlstate == SqlState::CHECK_VIOLATION.code() {
            return Self::LedgerRetired;
        }
        Self::Environment { sqlstate: failure.sqlstate, message: failure.message }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        if failure.sqlstate == CONNECTION || is_unavailable(&failure.sqlstate) {
            return Self::Unavailable(failure.message);
        }
        let is_missing = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN]
            .iter()
            .any(|code| code.code() == failure.sqlstate);
        if is_missing {
            return Self::SchemaOutdated(failure.message);
        }
        Self::Refused { sqlstate: failure.sqlstate, message: failure.message }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Failure::from(&error).into()
    }
}

impl From<deadpool_postgres::PoolError> for StoreError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => error.into(),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// Our library's own messages name what failed and why, one cause behind the other.
fn connection_message(error: &Error) -> String {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !message.contains(&cause_text) {
            message.push_str(": ");
            message.push_str(&cause_text);
        }
        source = cause.source();
    }
    message
}

/// Connection exceptions, insufficient resources, shutdowns and cancellations (timeouts).
fn is_unavailable(sqlstate: &str) -> bool {
    ["08", "53", "57"].iter().any(|class| sqlstate.starts_with(class))
}

/// What a failure of the COPY into `events` means.
pub(super) fn cause_in_copy(error: &Error) -> Cause {
    let Some(refused) = error.as_db_error() else { return Cause::Environment(error.into()) };
    if *refused.code() == SqlState::UNIQUE_VIOLATION {
        return Cause::Duplicate;
    }
    if is_data(refused.code()) || is_check_of_an_operator(refused) {
        return Cause::Data(refusal(refused));
    }
    cause(error)
}

/// What a failure of any other statement means: never the data's fault, for those statements carry only what we made.
pub(super) fn cause(error: &Error) -> Cause {
    let failure = Failure::from(error);
    let Some(refused) = error.as_db_error() else { return Cause::Environment(failure) };
    match *refused.code() {
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Cause::Race(failure),
        // The tables that are partitioned have no check that a row of ours could fail. What fails is the routing: no
        // partition at all, or one that was attached between routing and storing.
        SqlState::CHECK_VIOLATION if refused.table() == Some("batches") && refused.constraint().is_none() => {
            Cause::NoPartition(failure)
        }
        SqlState::CHECK_VIOLATION if refused.constraint().is_none() => Cause::Race(failure),
        _ => Cause::Environment(failure),
    }
}

/// Data exception, cardinality violation, not-null violation, program limit exceeded (text or nesting too large).
///
/// Not among them: 22P04 (bad copy file format), which says that the table is not the one we were built for, and every
/// row would meet it; and 23514, see [`is_check_of_an_operator`].
fn is_data(code: &SqlState) -> bool {
    if *code == SqlState::BAD_COPY_FILE_FORMAT {
        return false;
    }
    let class = &code.code()[..2];
    *code == SqlState::NOT_NULL_VIOLATION || ["21", "22", "54"].contains(&class)
}

/// We put no CHECK on `events`, so one that has a name is an operator's, and refuses a row for what is in it. Without a name
/// it is the routing, see [`cause`].
fn is_check_of_an_operator(refused: &DbError) -> bool {
    *refused.code() == SqlState::CHECK_VIOLATION && refused.constraint().is_some()
}

fn refusal(refused: &DbError) -> Refusal {
    let place = refused.where_().and_then(place_in_copy);
    let reason = match &place {
        Some(Place { column: Some(column), .. }) => format!("{} (column {column})", refused.message()),
        _ => refused.message().to_owned(),
    };
    Refusal { line: place.map(|place| place.line), sqlstate: refused.code().code().to_owned(), reason }
}

#[derive(PartialEq, Eq, Debug)]
struct Place {
    line: u64,
    column: Option<String>,
}

/// Finds `COPY events, line 2, column properties` in the context of an error (source: `CopyFromErrorCallback` in
/// PostgreSQL's copyfrom.c). Lines before it belong to functions called for the row, such as the JSON parser.
fn place_in_copy(context: &str) -> Option<Place> {
    context.lines().find_map(|text| {
        let rest = text.strip_prefix("COPY events, line ")?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let line = rest[..digits].parse().ok()?;
        let column = rest[digits..]
            .strip_prefix(", column ")
            .map(|column| column.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect());
        Some(Place { line, column })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_found_behind_the_json_parsers_own_context() {
        let context = "JSON data, line 1: {\"a\":\\u0000...\nCOPY events, line 17, column properties";
        assert_eq!(place_in_copy(context), Some(Place { line: 17, column: Some("properties".to_owned()) }));
        assert_eq!(place_in_copy("COPY events, line 3"), Some(Place { line: 3, column: None }));
        assert_eq!(place_in_copy("JSON data, line 1: COPY"), None);
    }

    #[test]
    fn only_what_is_in_a_row_is_held_against_it() {
        for code in ["22P02", "22P05", "22003", "22021", "54000", "54001", "23502", "21000"] {
            assert!(is_data(&SqlState::from_code(code)), "{code}");
        }
        for code in [
            "22P04", "08006", "53100", "55P03", "57P01", "57014", "58030", "40001", "25006", "42P01", "23514",
        ] {
            assert!(!is_data(&SqlState::from_code(code)), "{code}");
        }
    }
}
