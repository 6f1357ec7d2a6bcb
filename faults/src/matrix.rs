//! The table of drills. The drills are in `drills/`.

use crate::drills;
use crate::row::Row;

/// Drills with a disk that runs full. They can only run where a tmpfs can be mounted.
const ON_TMPFS: [&str; 4] =
    ["disk of the events full", "disk of postgres full", "redis disk full", "embedded on a full disk"];

/// All drills, in the order of the table.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    drills::ALL.iter().copied().flatten()
}

pub fn row(name: &str) -> Option<&'static Row> {
    rows().find(|row| row.name == name)
}

pub fn needs_tmpfs(row: &Row) -> bool {
    ON_TMPFS.contains(&row.name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_drill_has_a_name_of_its_own() {
        let names: BTreeSet<_> = rows().map(|row| row.name).collect();
        assert_eq!(names.len(), rows().count());
    }

    #[test]
    fn every_drill_on_a_tmpfs_is_in_the_table() {
        assert_eq!(rows().filter(|row| needs_tmpfs(row)).count(), ON_TMPFS.len());
    }
}
