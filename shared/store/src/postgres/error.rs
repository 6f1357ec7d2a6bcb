//! Classifies failed statements, by SQLSTATE alone and never by the text of a message.
//!
//! This module must never repeat event data: it keeps only the message and the line in the COPY of the
//! database's answer, and drops the detail, the hint and the JSON fragments in the context.

use millrace_address::{HandshakeNames, describe_handshake, handshake_error};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::refusal::Refusal;
use crate::dead_reason::DeadReason;
use crate::{StoreError, WriteError};

/// Used instead of a SQLSTATE when the database gave none.
pub(super) const CONNECTION: &str = "connection";
/// Used instead of a SQLSTATE when the server answers and can never be used.
pub(super) const UNUSABLE: &str = "unusable";

/// What the operator must know of a pooler that gives a session's transactions to different connections.
pub(super) const POOLER: &str = "DATABASE_URL leads through a pooler in transaction or statement mode (PgBouncer): set \
                                 pool_mode = session for this database, or use the address of PostgreSQL itself";

/// Why a statement that stores no events failed. The data is never the cause.
#[derive(Debug)]
pub(super) enum Cause {
    /// Another transaction won. The same transaction can succeed immediately.
    Race(Failure),
    /// The day has no partition in the ledger.
    NoPartition(Failure),
    Environment(Failure),
}

/// Why a statement that stores rows in `events` failed.
#[derive(Debug)]
pub(super) enum EventsCause {
    /// A row has the key of a stored row.
    Duplicate,
    /// The database rejects the content of a row of the COPY: the `line`-th, from 1, when the database names
    /// it.
    Rejected { line: Option<u64>, rejection: DeadReason },
    /// The data is not the cause.
    Other(Cause),
}

/// The database's answer, without data of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    /// SQLSTATE, or [`CONNECTION`].
    pub(super) sqlstate: String,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(sqlstate: &str, message: impl Into<String>) -> Self {
        Self { sqlstate: sqlstate.to_owned(), message: message.into() }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        if let Some(refusal) = Refusal::of(error) {
            return Self::new(if refusal.is_forever { UNUSABLE } else { CONNECTION }, &refusal.reason);
        }
        match error.as_db_error() {
            Some(refused) if is_of_another_session(refused.code()) => Self::new(UNUSABLE, POOLER),
            Some(refused) if lacks_tls(refused) => {
                Self::new(refused.code().code(), format!("{}; {DEMANDS_TLS}", refused.message()))
            }
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
        let advice = if is_outdated(&failure.sqlstate) { "; run `millrace migrate`" } else { "" };
        Self::Environment { message: format!("{}{advice}", failure.message), sqlstate: failure.sqlstate }
    }
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Failure::from(&error).into()
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        if failure.sqlstate == UNUSABLE {
            return Self::Unusable(failure.message);
        }
        if failure.sqlstate == CONNECTION || is_unavailable(&failure.sqlstate) {
            return Self::Unavailable(failure.message);
        }
        if is_outdated(&failure.sqlstate) {
            return Self::SchemaOutdated(failure.message);
        }
        if failure.sqlstate == SqlState::READ_ONLY_SQL_TRANSACTION.code() {
            return Self::Unavailable(READ_ONLY.to_owned());
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

/// What the operator must know of a server that only reads.
pub(super) const READ_ONLY: &str = "this PostgreSQL is read-only (a standby, or default_transaction_read_only is on); \
                                    DATABASE_URL must lead to the primary";

/// What to do when the server has rules for connections with TLS only.
const DEMANDS_TLS: &str = "if it demands TLS, set sslmode=verify-full and sslrootcert in DATABASE_URL";

/// What the client library says when the server answers that it has no TLS.
const NO_TLS_ANSWER: &str = "server does not support TLS";

/// The client library's own messages name what failed and why, one cause after the other.
fn connection_message(error: &Error) -> String {
    if let Some(failed) = handshake_error(error) {
        return describe_handshake(failed, HandshakeNames::POSTGRES);
    }
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if cause == NO_TLS_ANSWER {
        return "this PostgreSQL has no TLS, which sslmode demands: set ssl = on in it, or sslmode=prefer in \
                DATABASE_URL"
            .to_owned();
    }
    let mut message = error.to_string();
    let refused = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    if refused.is_some_and(|refused| {
        refused.kind() == std::io::ErrorKind::PermissionDenied && refused.to_string().contains("allow writes")
    }) {
        return READ_ONLY.to_owned();
    }
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

/// Whether no rule allows this connection without TLS. A server that speaks another language than English is
/// not recognized, and then its message stands alone.
fn lacks_tls(refused: &DbError) -> bool {
    *refused.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        && refused.message().contains("no encryption")
}

/// A prepared statement exists that this session did not make, or one that it made does not.
fn is_of_another_session(code: &SqlState) -> bool {
    [SqlState::DUPLICATE_PSTATEMENT, SqlState::INVALID_SQL_STATEMENT_NAME].contains(code)
}

/// A table or a column is missing.
fn is_outdated(sqlstate: &str) -> bool {
    [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN].iter().any(|code| code.code() == sqlstate)
}

/// Connection exceptions, insufficient resources, shutdowns and cancellations (timeouts).
fn is_unavailable(sqlstate: &str) -> bool {
    ["08", "53", "57"].iter().any(|class| sqlstate.starts_with(class))
}

/// Classifies a failure of a statement that stores rows in `events`.
pub(super) fn cause_in_events(error: &Error) -> EventsCause {
    let Some(answer) = error.as_db_error() else { return EventsCause::Other(cause(error)) };
    if *answer.code() == SqlState::UNIQUE_VIOLATION {
        return EventsCause::Duplicate;
    }
    if is_data(answer.code()) || is_operators_check(answer) {
        return rejected(answer);
    }
    EventsCause::Other(cause(error))
}

/// Classifies a failure of any other statement. The data is never the cause: these statements carry only
/// generated values.
pub(super) fn cause(error: &Error) -> Cause {
    let failure = Failure::from(error);
    let Some(answer) = error.as_db_error() else { return Cause::Environment(failure) };
    match *answer.code() {
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Cause::Race(failure),
        // Without the name of a constraint it is the routing of a partitioned table: there is no partition,
        // or one was attached between routing and storing. A constraint with a name is a CHECK that an
        // operator added.
        SqlState::CHECK_VIOLATION if answer.constraint().is_some() => Cause::Environment(failure),
        SqlState::CHECK_VIOLATION if answer.table() == Some("batches") => Cause::NoPartition(failure),
        SqlState::CHECK_VIOLATION => Cause::Race(failure),
        _ => Cause::Environment(failure),
    }
}

/// Data exception, cardinality violation, not-null violation, program limit exceeded (text or nesting too
/// large).
///
/// Excluded are 22P04 (bad copy file format), which means that the table has another shape and every row
/// would fail, and 23514, see [`is_operators_check`].
fn is_data(code: &SqlState) -> bool {
    if *code == SqlState::BAD_COPY_FILE_FORMAT {
        return false;
    }
    let class = &code.code()[..2];
    *code == SqlState::NOT_NULL_VIOLATION || ["21", "22", "54"].contains(&class)
}

/// The schema has no CHECK on `events`, so one with a name is an operator's and rejects the row for its
/// content. Without a name it is the routing, see [`cause`]. Citus passes on an error of a node without any
/// name.
fn is_operators_check(answer: &DbError) -> bool {
    let is_of_node = answer.table().is_none();
    *answer.code() == SqlState::CHECK_VIOLATION && (answer.constraint().is_some() || is_of_node)
}

fn rejected(answer: &DbError) -> EventsCause {
    let position = answer.where_().and_then(copy_position);
    let reason = match &position {
        Some(CopyPosition { column: Some(column), .. }) => format!("{} (column {column})", answer.message()),
        _ => answer.message().to_owned(),
    };
    EventsCause::Rejected {
        line: position.map(|position| position.line),
        rejection: DeadReason::by_database(answer.code().code(), reason),
    }
}

#[derive(PartialEq, Eq, Debug)]
struct CopyPosition {
    line: u64,
    column: Option<String>,
}

/// Finds `COPY events, line 2, column properties` in the context of an error (source: `CopyFromErrorCallback`
/// in PostgreSQL's copyfrom.c). Lines before it belong to functions called for the row, such as the JSON
/// parser.
fn copy_position(context: &str) -> Option<CopyPosition> {
    context.lines().find_map(|text| {
        let rest = text.strip_prefix("COPY events, line ")?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let line = rest[..digits].parse().ok()?;
        let column = rest[digits..]
            .strip_prefix(", column ")
            .map(|column| column.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect());
        Some(CopyPosition { line, column })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_found_after_the_json_parsers_own_context() {
        let context = "JSON data, line 1: {\"a\":\\u0000...\nCOPY events, line 17, column properties";
        assert_eq!(
            copy_position(context),
            Some(CopyPosition { line: 17, column: Some("properties".to_owned()) })
        );
        assert_eq!(copy_position("COPY events, line 3"), Some(CopyPosition { line: 3, column: None }));
        assert_eq!(copy_position("JSON data, line 1: COPY"), None);
    }

    #[test]
    fn only_codes_about_the_content_of_a_row_reject_it() {
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
