//! The environment variables of libpq.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::options::OPTIONS;

/// Those variables of libpq that are set, and `HOME`. `Debug` shows only their names.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process. One that is empty counts as not set.
    pub fn of_process() -> Self {
        let names = OPTIONS.iter().map(|row| row.variable).filter(|variable| !variable.is_empty());
        let value = |name: &'static str| Some((name, std::env::var(name).ok()?));
        names.chain(["HOME"]).filter_map(value).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    /// The file of libpq in the home folder.
    pub(super) fn home(&self, name: &str) -> Option<PathBuf> {
        self.get("HOME").map(|home| Path::new(home).join(name))
    }
}

impl<'a> FromIterator<(&'a str, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (&'a str, String)>>(variables: T) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.keys()).finish()
    }
}
