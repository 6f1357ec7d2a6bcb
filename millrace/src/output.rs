//! Prints results: text for people, or one JSON document for programs. Standard output carries nothing else.

use std::io::{ErrorKind, IsTerminal, Write, stdout};

use console::truncate_str;
use millrace_event::printable::escaped_json;
use serde::Serialize;

use crate::failure::Failure;
use crate::terminal;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints `json` or `text`, as the operator asked.
    pub(crate) fn print(self, text: &str, json: &impl Serialize) -> Result<(), Failure> {
        // Texts of clients must not control the terminal of an operator.
        let document = if self.json { escaped_json(&written(json)) } else { text.trim_end().to_owned() };
        match writeln!(stdout().lock(), "{document}") {
            Ok(()) => Ok(()),
            // The reader stopped reading, as in `millrace audit | head -1`.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Failure::Refused(format!("standard output: {error}"))),
        }
    }
}

fn written(json: &impl Serialize) -> String {
    serde_json::to_string_pretty(json).expect("documents have string keys and finite numbers")
}

/// A table. Columns are as wide as their widest cell; columns of numbers are aligned at the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let numeric: Vec<bool> =
        (0..head.len()).map(|column| rows.iter().all(|row| is_number(&row[column]))).collect();
    let mut text = String::new();
    let heading: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let padded = if numeric[column] { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            text.push_str(gap);
            text.push_str(&padded);
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// A table whose last column may be long. Its lines are cut to the width of the terminal, if there is one.
pub(crate) fn cut_table(head: &[&str], rows: &[Vec<String>]) -> String {
    let whole = table(head, rows);
    if stdout().is_terminal() { cut(&whole, terminal::columns()) } else { whole }
}

fn cut(text: &str, columns: usize) -> String {
    text.lines().flat_map(|line| [truncate_str(line, columns, "…"), "\n".into()]).collect()
}

/// A number as [`grouped`] writes it, or a word in its place.
fn is_number(cell: &str) -> bool {
    cell == "unlimited"
        || cell.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'-' | b'.'))
}

/// A number in groups of three: 1,234,567.
pub(crate) fn grouped(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// A decimal number with the digits before its point in groups of three: 1,234.5.
pub(crate) fn grouped_decimal(number: &str) -> String {
    let (whole, fraction) = number.split_at(number.find('.').unwrap_or(number.len()));
    match whole.parse() {
        // -0.5 has no negative whole number.
        Ok(0) | Err(_) => number.to_owned(),
        Ok(whole) => format!("{}{fraction}", grouped(whole)),
    }
}

/// A number and its noun: 1 letter, 1,234 letters.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_groups_of_three() {
        let written: Vec<_> = [0, 999, 1_000, -1_234_567, 100_000].into_iter().map(grouped).collect();
        assert_eq!(written, ["0", "999", "1,000", "-1,234,567", "100,000"]);
        let decimals = ["-0.5", "1234.5678", "-12000", "0.000000000000000001"].map(grouped_decimal);
        assert_eq!(decimals, ["-0.5", "1,234.5678", "-12,000", "0.000000000000000001"]);
        assert_eq!(
            [0, 1, 2_000].map(|number| counted(number, "event")),
            ["0 events", "1 event", "2,000 events"]
        );
    }

    #[test]
    fn lines_are_cut_to_the_width_of_the_terminal() {
        assert_eq!(cut("a reason\n名前 and more\n", 7), "a reas…\n名前 a…\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["shop".to_owned(), "1,000".to_owned(), "holds".to_owned()]];
        assert_eq!(
            table(&["project", "n", "verdict"], &rows),
            "project      n  verdict\nshop     1,000  holds\n"
        );
    }
}
