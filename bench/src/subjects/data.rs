//! The data that a subject starts with.

use std::path::Path;

use super::servers::key;

/// Where PostgreSQL keeps its data, and what is in it.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// `None` for a temporary folder.
    pub folder: Option<&'a Path>,
    /// Projects that receive events.
    pub projects: usize,
    /// Events carry times of the day that was this many whole days ago.
    pub days_ago: u32,
    /// Whether the first project has meters.
    pub is_metered: bool,
}

impl Data<'_> {
    /// An empty table and one project.
    pub const EMPTY: Self = Self { folder: None, projects: 1, days_ago: 0, is_metered: false };

    /// The keys of the projects.
    pub(super) fn keys(&self) -> Vec<String> {
        (0..self.projects).map(key).collect()
    }
}
