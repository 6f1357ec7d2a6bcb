//! Why a command has failed, and with which code it ends.

use std::process::ExitCode;

use shared::audit::AuditError;
use shared::store::StoreError;
use shared::stream::StreamError;

/// A table or a column that is not there: nobody has migrated.
const NOT_MIGRATED: [&str; 2] = ["42P01", "42703"];

/// Why a command ends with another code than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The audit was made and printed, and does not hold.
    #[error("the audit does not hold")]
    Unbalanced,
    /// Understood and refused.
    #[error("{0}")]
    Refused(String),
    /// Wrong usage or settings.
    #[error("{0}")]
    Usage(String),
    /// Redis or PostgreSQL cannot be reached.
    #[error("{0}")]
    Unreachable(String),
}

impl Failure {
    /// Says it on standard error.
    pub(crate) fn report(&self) {
        eprintln!("error: {self}");
    }

    /// 1, 2 or 3, as `--help` explains.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unbalanced | Self::Refused(_) => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::Unreachable(_) => ExitCode::from(3),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                Self::Unreachable(format!("{error}; is PostgreSQL running, and is DATABASE_URL right?"))
            }
            StoreError::Refused { ref sqlstate, .. } if NOT_MIGRATED.contains(&sqlstate.as_str()) => {
                Self::Refused(
                    "the database has no tables of ours, or old ones; run `millrace migrate` first"
                        .to_owned(),
                )
            }
            StoreError::Refused { .. } | StoreError::Invalid(_) => Self::Refused(error.to_string()),
        }
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Unavailable(_) | StreamError::Unknown(_) => {
                Self::Unreachable(format!("{error}; is Redis running, and is REDIS_URL right?"))
            }
            StreamError::Full(_) | StreamError::EpochChanged | StreamError::Refused(_) => {
                Self::Refused(error.to_string())
            }
        }
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Stream(error) => error.into(),
            AuditError::Store(error) => error.into(),
        }
    }
}
