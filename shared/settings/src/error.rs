//! A setting that cannot be used.

use millrace_failpoint::UnknownSetting;

/// Displayed as `VARIABLE="value": reason`.
#[derive(Debug, thiserror::Error)]
#[error("{variable}={value:?}: {reason}")]
pub struct ConfigError {
    /// The environment variable, also when the value was given as a flag.
    pub variable: String,
    /// `…` instead of a value that may hold a password.
    pub value: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl From<UnknownSetting> for ConfigError {
    fn from(error: UnknownSetting) -> Self {
        Self { variable: error.variable.to_owned(), value: error.value, reason: error.reason }
    }
}
