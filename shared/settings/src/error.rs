//! A setting that cannot be used.

use millrace_failpoint::UnknownSetting;

/// Displayed as `VARIABLE="value": reason`, or as `VARIABLE is not set: reason`.
#[derive(Debug, thiserror::Error)]
#[error("{variable}{}: {reason}", value.as_ref().map_or_else(|| " is not set".to_owned(), |value| format!("={value:?}")))]
pub struct ConfigError {
    /// The environment variable, also when the value was given as a flag.
    pub variable: String,
    /// `…` instead of a value that may hold a password. `None` when the setting is missing.
    pub value: Option<String>,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl From<UnknownSetting> for ConfigError {
    fn from(error: UnknownSetting) -> Self {
        Self { variable: error.variable.to_owned(), value: Some(error.value), reason: error.reason }
    }
}
