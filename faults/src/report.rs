//! Writes the tables of `docs/faults.md`. A drill or mutant that did not run keeps its last result, and the
//! text around the tables does not change.

use std::fmt::Write;
use std::io;
use std::path::Path;

use crate::matrix;
use crate::mutants::{Hunt, MUTANTS};
use crate::row::Tier;
use crate::runner::DrillResult;

/// The lines around each table.
const DRILL_MARKERS: [&str; 2] = ["<!-- drills: begin -->", "<!-- drills: end -->"];
const MUTANT_MARKERS: [&str; 2] = ["<!-- mutants: begin -->", "<!-- mutants: end -->"];
/// The result of a drill or mutant that has never run.
const NEVER: &str = "not run yet";

/// # Errors
/// When the file cannot be read or written, or contains no markers of the table.
pub fn write_drills(file: &Path, results: &[DrillResult]) -> io::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let old = between(&text, DRILL_MARKERS)?;
    let mut table =
        String::from("| drill | breaks | fault | expected | tier | result |\n|---|---|---|---|---|---|\n");
    for row in matrix::rows() {
        let new = results.iter().find(|result| result.row.name == row.name).map(drill_cell);
        let cell = new.or_else(|| last_cell(old, row.name)).unwrap_or_else(|| NEVER.to_owned());
        let line = [row.name, row.target, row.fault, row.expected, tier_cell(row.tier), &cell];
        writeln!(table, "| {} |", line.join(" | ")).expect("writing to a String does not fail");
    }
    std::fs::write(file, replaced(&text, DRILL_MARKERS, &table)?)
}

/// # Errors
/// See [`write_drills`].
pub fn write_mutants(file: &Path, hunts: &[Hunt]) -> io::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let old = between(&text, MUTANT_MARKERS)?;
    let mut table = String::from("| mutant | bug | drill | tier | caught by |\n|---|---|---|---|---|\n");
    for mutant in MUTANTS {
        let title = mutant.title();
        let new = hunts.iter().find(|hunt| hunt.mutant.title() == title).map(mutant_cell);
        let cell = new.or_else(|| last_cell(old, &title)).unwrap_or_else(|| NEVER.to_owned());
        let line = [&title, mutant.bug, mutant.drill, tier_cell(mutant.tier), &cell];
        writeln!(table, "| {} |", line.join(" | ")).expect("writing to a String does not fail");
    }
    std::fs::write(file, replaced(&text, MUTANT_MARKERS, &table)?)
}

fn tier_cell(tier: Tier) -> &'static str {
    match tier {
        Tier::Quick => "quick",
        Tier::Nightly => "nightly",
    }
}

fn mutant_cell(hunt: &Hunt) -> String {
    let invariants = hunt.caught_by().into_iter();
    let names: Vec<_> = invariants.map(|invariant| format!("{} {invariant:?}", invariant.number())).collect();
    if names.is_empty() { "**nothing**".to_owned() } else { names.join(", ") }
}

fn drill_cell(result: &DrillResult) -> String {
    let seed = result.seed;
    match &result.verdict {
        Ok(verdict) => format!("{} (seed {seed})", verdict.effects_text()),
        Err(panic) => format!("**panicked**: {} (seed {seed})", panic.replace(['\n', '|'], " ")),
    }
}

/// The last cell of the row with this name in its first cell.
fn last_cell(table: &str, name: &str) -> Option<String> {
    let begin = format!("| {name} | ");
    let line = table.lines().find(|line| line.starts_with(&begin))?;
    line.trim_end_matches(" |").rsplit(" | ").next().map(str::to_owned)
}

fn between<'a>(text: &'a str, [begin, end]: [&str; 2]) -> io::Result<&'a str> {
    let table = || Some(text.split_once(begin)?.1.split_once(end)?.0);
    table().ok_or_else(|| io::Error::other(format!("the file contains no {begin} with {end} after it")))
}

fn replaced(text: &str, markers: [&str; 2], table: &str) -> io::Result<String> {
    let old = between(text, markers)?;
    let [begin, end] = markers;
    Ok(text.replacen(&format!("{begin}{old}{end}"), &format!("{begin}\n{table}{end}"), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_replaced_and_the_text_around_it_is_kept() {
        let [begin, end] = DRILL_MARKERS;
        let text = format!("before\n{begin}\nold\n{end}\nafter");
        let new = replaced(&text, DRILL_MARKERS, "new\n").unwrap();
        assert_eq!(new, format!("before\n{begin}\nnew\n{end}\nafter"));
        assert!(replaced("no markers", DRILL_MARKERS, "new").is_err());
    }

    #[test]
    fn the_last_result_of_a_row_is_found_by_its_name() {
        let table = "| a | b | last result |\n| c | d | other |\n";
        assert_eq!(last_cell(table, "a").as_deref(), Some("last result"));
        assert_eq!(last_cell(table, "d"), None);
    }
}
