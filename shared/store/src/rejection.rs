//! The reason why a database rejected a row.

/// The database's reason, without data of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rejection {
    pub(super) sqlstate: String,
    /// For operators.
    pub(super) reason: String,
}
