//! The table of drills. The drills are in [`crate::drills`].

use crate::drills;
use crate::row::Row;

/// All drills, in the order of the table.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    drills::ALL.iter().copied().flatten()
}

pub fn row(name: &str) -> Option<&'static Row> {
    rows().find(|row| row.name == name)
}
