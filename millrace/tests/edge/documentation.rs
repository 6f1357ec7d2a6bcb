//! The tables of `docs/sdks.md` and the tests of this target have the same rows.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{dead, repaired};

/// The text between a heading and the next one.
fn section(heading: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join("sdks.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("\n### {heading}\n")).expect("the heading exists");
    rest.split("\n#").next().unwrap().to_owned()
}

/// The cells of all rows of the tables in a text.
fn rows(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_head = lines.peek().is_some_and(|next| next.starts_with("|---"));
        if line.starts_with("| ") && !is_head {
            let cells = line.trim_matches('|').split(" | ");
            rows.push(cells.map(|cell| cell.trim().to_owned()).collect());
        }
    }
    rows
}

#[test]
fn every_repair_that_is_documented_is_tested_and_every_tested_one_is_documented() {
    let section = section("What is repaired");
    let (_, spellings) = section.split_once("Times are read in these spellings: ").unwrap();
    let (spellings, _) = spellings.split_once(". A number").unwrap();
    let spellings = spellings.replace('\n', " ");
    let mut documented: BTreeSet<String> = spellings.split("; ").map(str::to_owned).collect();
    for row in rows(&section) {
        // The units of numbers are in the last column of a table of their own.
        let cell = if row.len() == 3 { &row[2] } else { &row[0] };
        assert!(documented.insert(cell.clone()), "{cell} is documented twice");
    }
    let tested: BTreeSet<String> =
        repaired::all().iter().map(|repair| repair.documented.to_owned()).collect();
    let tested: BTreeSet<String> = tested.into_iter().filter(|row| !row.is_empty()).collect();
    assert_eq!(documented, tested);
}

#[test]
fn every_reason_of_a_dead_letter_that_is_documented_is_tested_and_every_tested_one_is_documented() {
    let mut documented = BTreeSet::new();
    for row in rows(&section("What becomes a dead letter")) {
        for code in row[1].split(", ") {
            documented.insert((row[0].clone(), code.trim_matches('`').to_owned()));
        }
    }
    let tested = dead::all().into_iter().map(|(row, code, _)| (row, code)).chain([dead::OUT_OF_BOUNDS]);
    let tested: BTreeSet<_> = tested.map(|(row, code)| (row.to_owned(), code.to_owned())).collect();
    assert_eq!(documented, tested);
}
