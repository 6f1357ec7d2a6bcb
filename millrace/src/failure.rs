//! Why a command has failed, and with which code it ends.

use std::process::ExitCode;

use millrace_reconcile::audit::AuditError;
use millrace_settings::ConfigError;
use millrace_store::StoreError;
use millrace_stream::StreamError;

use crate::place::Place;

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
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream cannot be used.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl Failure {
    /// Says it on standard error, with what to do about it.
    pub(crate) fn report(&self, place: Option<&Place>) {
        match (self.advice(), place) {
            (Advice::Nothing, _) => eprintln!("error: {self}"),
            (Advice::Migrate, _) => eprintln!("error: {self}; run `millrace migrate` first"),
            (Advice::LookAtPlace, Some(place)) => eprintln!("error: {self}; {}", place.hint()),
            (Advice::LookAtPlace, None) => eprintln!("error: {self}"),
        }
    }

    fn advice(&self) -> Advice {
        match self {
            Self::Store(StoreError::Unavailable(_))
            | Self::Stream(StreamError::Unavailable(_) | StreamError::Unknown(_)) => Advice::LookAtPlace,
            Self::Store(StoreError::SchemaOutdated(_)) => Advice::Migrate,
            _ => Advice::Nothing,
        }
    }

    /// 1, 2 or 3, as `--help` explains.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match (self, self.advice()) {
            (_, Advice::LookAtPlace) => ExitCode::from(3),
            (Self::Usage(_), _) => ExitCode::from(2),
            _ => ExitCode::from(1),
        }
    }
}

/// What whoever reads of a failure can do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Advice {
    Nothing,
    Migrate,
    LookAtPlace,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
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
