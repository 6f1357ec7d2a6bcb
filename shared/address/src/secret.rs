//! A setting that may hold a password: given as a value, or in a file that is read again at every connection.

use std::fmt;
use std::path::PathBuf;

/// A URL with a password. `Debug` shows no value.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Value(String),
    /// The file holds the value, with or without a line break at its end. It is read whenever a connection is
    /// opened, so a password can be changed while the program runs.
    File(PathBuf),
}

impl Secret {
    /// The value now.
    ///
    /// # Errors
    /// When the file cannot be read or is empty; the text names the file and says why.
    pub fn read(&self) -> Result<String, String> {
        let path = match self {
            Self::Value(value) => return Ok(value.clone()),
            Self::File(path) => path,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
        match text.trim() {
            "" => Err(format!("the file {} is empty", path.display())),
            value => Ok(value.to_owned()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => formatter.write_str("Value(…)"),
            Self::File(path) => write!(formatter, "File({path:?})"),
        }
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::Value(value.to_owned())
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::Value(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_shown() {
        assert!(!format!("{:?}", Secret::from("redis://:hunter2@h")).contains("hunter2"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let refused = Secret::File("/nowhere/url".into()).read().unwrap_err();
        assert!(refused.contains("/nowhere/url"), "{refused}");
    }
}
