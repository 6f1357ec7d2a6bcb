//! Why a call to the store failed.

/// Why a read or an administrative statement failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, or too slow.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The database answered with an error.
    #[error("the store refused ({sqlstate}): {message}")]
    Refused {
        /// SQLSTATE.
        sqlstate: String,
        /// What it said.
        message: String,
    },
    /// A table or a column is missing: the schema is older than this program.
    #[error("the schema is not up to date: {0}")]
    SchemaOutdated(String),
    /// The caller asked for something that is not there or already there; the text tells what to do.
    #[error("{0}")]
    Invalid(String),
}

/// Why a write did not happen. Data is never the reason: what the database refuses becomes a dead letter.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The connection, the disk, a lock, a shutdown, a missing partition: try the same write again later, on a new
    /// writer. Whether the transaction committed may be unknown; the ledger will tell.
    #[error("the store cannot write now ({sqlstate}): {message}")]
    Environment {
        /// SQLSTATE, or `connection`.
        sqlstate: String,
        /// What the database said, without data of events.
        message: String,
    },
    /// The entry's day of the ledger is retired, which happens only after the entry was settled. The lane that holds it was
    /// stopped for days and must read again what is pending for it.
    #[error("the ledger of the day on which this entry was received is retired")]
    LedgerRetired,
}
