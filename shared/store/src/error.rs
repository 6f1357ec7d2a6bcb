//! Errors of the store.

/// Why a read or an administrative statement failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, or too slow. A later call can succeed.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The database answered with an error.
    #[error("the store refused ({sqlstate}): {message}")]
    Refused { sqlstate: String, message: String },
    /// The server answers, and cannot be used before an operator changes something. The text says what.
    #[error("{0}")]
    Unusable(String),
    /// A table or a column is missing: migrations of this program are not applied.
    #[error("the schema of the store is not up to date: {0}; run `millrace migrate`")]
    SchemaOutdated(String),
    /// The name of a new project or meter, or the text of a new key, is in use, or a key cannot be rotated
    /// any more. The text says what to do.
    #[error("{0}")]
    Conflict(String),
    /// There is no such project or key. The text says what to do.
    #[error("{0}")]
    Missing(String),
    /// The request cannot be fulfilled, such as for a plan that does not exist. The text says what to do.
    #[error("{0}")]
    Invalid(String),
}

impl StoreError {
    /// The error for readers who may not know the installation: PostgreSQL names addresses and users when it
    /// refuses a login.
    pub fn without_addresses(&self) -> String {
        match self {
            Self::Refused { sqlstate, .. } if sqlstate.starts_with("28") => {
                format!("the store refused ({sqlstate}): check the user and the password of DATABASE_URL")
            }
            other => other.to_string(),
        }
    }
}

/// Why a write failed. Data is never the cause: rows that the database rejects become dead letters.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The connection, the disk, a lock, a shutdown: repeat the write later, on a new writer. Whether the
    /// transaction was committed may be unknown; the ledger shows it when the write is repeated.
    #[error("the store cannot write now ({sqlstate}): {message}")]
    Environment {
        /// SQLSTATE, or `connection`.
        sqlstate: String,
        /// The database's message, without data of events.
        message: String,
    },
    /// The entry's day of the ledger is retired, which happens only after the entry was settled. The lane
    /// that has the entry was stopped for days and must read its pending entries again.
    #[error("the ledger no longer covers the day on which this entry was received")]
    LedgerRetired,
    /// The counters of the shard were rebuilt since the lane read its entries, and the rebuild did not count
    /// them. The lane must read again what is pending for it.
    #[error("shard {shard} has a new epoch: its counters were rebuilt since these entries were read")]
    EpochReplaced { shard: u16 },
}

/// For what a write reads besides its entries.
impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused { sqlstate, message } => Self::Environment { sqlstate, message },
            other => Self::Environment { sqlstate: "connection".to_owned(), message: other.to_string() },
        }
    }
}
