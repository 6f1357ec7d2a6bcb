//! The tables of `docs/faults.md`, written by whoever held the drills. What was not held this time keeps what was seen
//! the last time; the text around the tables is left alone.

use std::fmt::Write;
use std::io;
use std::path::Path;

use crate::matrix::{self, Tier};
use crate::mutants::{self, Caught};
use crate::runner::Held;

/// Between these, a table is ours.
const DRILLS: [&str; 2] = ["<!-- drills: begin -->", "<!-- drills: end -->"];
const MUTANTS: [&str; 2] = ["<!-- mutants: begin -->", "<!-- mutants: end -->"];
/// What stands in a table for a drill that was never held, or a mutant that was never hunted.
const NEVER: &str = "not held yet";

/// Writes what these drills have seen into the table.
///
/// # Errors
/// When the file cannot be read or written, or has no place for the table.
pub fn write_drills(file: &Path, held: &[Held]) -> io::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let old = between(&text, DRILLS)?;
    let mut table =
        String::from("| drill | hits | fault | must | tier | seen |\n|---|---|---|---|---|---|\n");
    for row in matrix::rows() {
        let now = held.iter().find(|held| held.row.name == row.name);
        let seen = now.map(seen).or_else(|| old_cell(old, row.name)).unwrap_or_else(|| NEVER.to_owned());
        let tier = match row.tier {
            Tier::Quick => "quick",
            Tier::Nightly => "nightly",
        };
        let line = [row.name, row.target, row.fault, row.expected, tier, &seen];
        writeln!(table, "| {} |", line.join(" | ")).expect("writing to a String does not fail");
    }
    std::fs::write(file, replaced(&text, DRILLS, &table)?)
}

/// Writes which mutants were caught into the other table.
///
/// # Errors
/// See [`write_drills`].
pub fn write_mutants(file: &Path, caught: &[Caught]) -> io::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let old = between(&text, MUTANTS)?;
    let mut table = String::from("| mutant | what is wrong | drill | caught by |\n|---|---|---|---|\n");
    for mutant in mutants::MUTANTS {
        let now = caught.iter().find(|caught| caught.mutant.title() == mutant.title());
        let by =
            now.map(caught_by).or_else(|| old_cell(old, &mutant.title())).unwrap_or_else(|| NEVER.to_owned());
        let line = [&mutant.title(), mutant.wrong, mutant.drill, &by];
        writeln!(table, "| {} |", line.join(" | ")).expect("writing to a String does not fail");
    }
    std::fs::write(file, replaced(&text, MUTANTS, &table)?)
}

fn caught_by(caught: &Caught) -> String {
    let by: Vec<_> =
        caught.by().into_iter().map(|invariant| format!("{} {invariant:?}", invariant.number())).collect();
    if by.is_empty() { "**nothing**".to_owned() } else { by.join(", ") }
}

fn seen(held: &Held) -> String {
    match &held.verdict {
        Ok(verdict) => format!("{} (seed {})", verdict.seen(), held.seed),
        Err(panic) => format!(
            "**could not be held to the end**: {} (seed {})",
            panic.replace(['\n', '|'], " "),
            held.seed
        ),
    }
}

fn old_cell(table: &str, name: &str) -> Option<String> {
    let begin = format!("| {name} | ");
    let line = table.lines().find(|line| line.starts_with(&begin))?;
    line.trim_end_matches(" |").rsplit(" | ").next().map(str::to_owned)
}

fn between<'a>(text: &'a str, [begin, end]: [&str; 2]) -> io::Result<&'a str> {
    let place = || Some(text.split_once(begin)?.1.split_once(end)?.0);
    place().ok_or_else(|| io::Error::other(format!("there is no {begin} with {end} behind it")))
}

fn replaced(text: &str, marks: [&str; 2], table: &str) -> io::Result<String> {
    let old = between(text, marks)?;
    Ok(text.replacen(
        &format!("{}{old}{}", marks[0], marks[1]),
        &format!("{}\n{table}{}", marks[0], marks[1]),
        1,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_replaced_and_the_text_around_it_is_not() {
        let text = format!("before\n{}\nold\n{}\nafter", DRILLS[0], DRILLS[1]);
        let new = replaced(&text, DRILLS, "new\n").unwrap();
        assert_eq!(new, format!("before\n{}\nnew\n{}\nafter", DRILLS[0], DRILLS[1]));
        assert!(replaced("no place", DRILLS, "new").is_err());
    }

    #[test]
    fn what_was_seen_the_last_time_is_found_again() {
        let table = "| a | b | what was seen |\n| c | d | else |\n";
        assert_eq!(old_cell(table, "a").as_deref(), Some("what was seen"));
        assert_eq!(old_cell(table, "d"), None);
    }
}
