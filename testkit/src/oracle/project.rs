//! A project that the oracle posts events for.

use super::history::History;

#[derive(Debug)]
pub struct Project {
    pub id: i64,
    pub name: String,
    /// An API key of the project.
    pub key: String,
    /// Whether an event is recognized by its id alone. Its clients then stamp every repetition.
    pub is_by_id: bool,
    /// The posted events and the responses.
    pub history: History,
}
