//! A project that the oracle posts events for.

use super::history::History;

#[derive(Debug)]
pub struct Project {
    pub id: i64,
    pub name: String,
    /// An API key of the project.
    pub key: String,
    /// The posted events and the responses.
    pub history: History,
}
