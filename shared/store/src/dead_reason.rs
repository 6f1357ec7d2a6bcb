//! The reason why an event goes to the dead letters.

/// The reason, without data of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DeadReason {
    pub(super) by: RejectedBy,
    /// For operators.
    pub(super) reason: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum RejectedBy {
    /// The database, with this SQLSTATE.
    Database { sqlstate: String },
    /// The API, with this [`millrace_event::event::RejectionCode`]: no event can be made of the call.
    Dialect { code: String },
}

impl DeadReason {
    pub(super) fn by_database(sqlstate: &str, reason: impl Into<String>) -> Self {
        Self { by: RejectedBy::Database { sqlstate: sqlstate.to_owned() }, reason: reason.into() }
    }

    pub(super) fn sqlstate(&self) -> Option<&str> {
        match &self.by {
            RejectedBy::Database { sqlstate } => Some(sqlstate),
            RejectedBy::Dialect { .. } => None,
        }
    }

    pub(super) fn code(&self) -> Option<&str> {
        match &self.by {
            RejectedBy::Database { .. } => None,
            RejectedBy::Dialect { code } => Some(code),
        }
    }
}
