//! Why a benchmark cannot go on, in words for whoever started it.

use std::error::Error;
use std::fmt;

/// The reason.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// With these words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut words = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            words.push_str(&format!(": {deeper}"));
            cause = deeper.source();
        }
        Self(words)
    }
}
