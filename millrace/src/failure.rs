//! Errors of commands, with the advice to print and the exit code.

use std::process::ExitCode;

use millrace_reconcile::audit::AuditError;
use millrace_settings::ConfigError;
use millrace_store::StoreError;
use millrace_stream::StreamError;

/// What ended with a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    Serve,
    Audit,
    Command,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The audit is complete and printed.
    #[error("the audit does not hold")]
    AuditFailed,
    /// The command was understood and cannot be carried out.
    #[error("{0}")]
    Refused(String),
    /// A part of it is done, and a repetition does the rest.
    #[error("{0}")]
    Unfinished(String),
    /// The files of an installation cannot be used, or there are none.
    #[error("{0}")]
    Unusable(String),
    /// Wrong usage or settings.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl Failure {
    /// The error, and what to do about it. `backend_hint` says how to reach the backend.
    pub(crate) fn message(&self, backend_hint: &str) -> String {
        match self.advice() {
            Some(Advice::CheckBackend) => format!("{self}; {backend_hint}"),
            Some(Advice::CheckDatabaseUrl) => format!("{self}; check DATABASE_URL"),
            None => self.to_string(),
        }
    }

    /// 1, 2, 3 or 4, as `--help` explains for what failed.
    pub(crate) fn exit_code(&self, task: Task) -> ExitCode {
        ExitCode::from(match (self, task) {
            (Self::Usage(_), _) | (Self::Store(StoreError::Unusable(_)), Task::Serve) => 2,
            (Self::Unfinished(_), _) => 4,
            (_, Task::Serve) | (Self::AuditFailed, _) => 1,
            // A monitor must be able to tell an audit that does not hold from one that did not happen.
            (_, Task::Audit) => 3,
            _ if self.advice().is_some() || self.is_unusable() => 3,
            _ => 1,
        })
    }

    fn is_unusable(&self) -> bool {
        match self {
            Self::Unusable(_) | Self::Store(StoreError::Unusable(_)) => true,
            Self::Store(StoreError::Refused { sqlstate, .. }) => sqlstate == "XX001",
            _ => false,
        }
    }

    fn advice(&self) -> Option<Advice> {
        match self {
            Self::Store(StoreError::Unavailable(_))
            | Self::Stream(
                StreamError::Unavailable(_) | StreamError::Unknown(_) | StreamError::ReadOnly(_),
            ) => Some(Advice::CheckBackend),
            // Authentication failed, or the database does not exist.
            Self::Store(StoreError::Refused { sqlstate, .. })
                if sqlstate.starts_with("28") || sqlstate == "3D000" =>
            {
                Some(Advice::CheckDatabaseUrl)
            }
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Advice {
    CheckBackend,
    CheckDatabaseUrl,
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
