//! Every point is in the table of ARCHITECTURE.md, under its own name.

use std::collections::BTreeSet;
use std::path::Path;

use millrace_failpoint::Point;

#[test]
fn each_point_has_its_own_name_and_a_row_in_the_architecture() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let text = std::fs::read_to_string(file).unwrap();
    let is_row = |line: &&str| line.starts_with("| `") && line.contains("::");
    let documented: BTreeSet<&str> =
        text.lines().filter(is_row).map(|line| line.split('`').nth(1).unwrap()).collect();
    let names: BTreeSet<&str> = Point::ALL.map(Point::name).into();
    assert_eq!(names.len(), Point::ALL.len());
    assert_eq!(documented, names);
}
