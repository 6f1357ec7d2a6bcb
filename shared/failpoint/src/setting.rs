//! The error for a setting of a drill that names something unknown.

use std::fmt;

/// An environment variable of a drill build with an invalid value.
#[derive(Debug)]
pub struct UnknownSetting {
    pub variable: &'static str,
    pub value: String,
    /// What is wrong, and which values are valid.
    pub reason: String,
}

impl fmt::Display for UnknownSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}: {}", self.variable, self.value, self.reason)
    }
}

impl std::error::Error for UnknownSetting {}
