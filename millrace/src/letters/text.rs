//! Letters as people read them: columns as wide as they must be, and nothing that a terminal would obey.

use console::{Term, measure_text_width, truncate_str};
use serde_json::{Value, json};
use shared::plan::ProjectId;
use shared::store::DeadLetter;

use super::filter::shown;

/// Between two columns.
const GAP: &str = "  ";

/// How wide a line may be: as the terminal is, or as it likes where there is none.
pub(crate) fn line_width() -> usize {
    Term::stdout().size_checked().map_or(usize::MAX, |(_, columns)| usize::from(columns))
}

/// Rows under a head. Columns of numbers, by their place, stand at the right; the last column is cut to what is left of
/// the line.
pub(crate) fn columns(head: &[&str], numbers: &[usize], rows: &[Vec<String>], line_width: usize) -> String {
    let last = head.len() - 1;
    let width = |column: usize| {
        let cells = rows.iter().map(|row| measure_text_width(&row[column]));
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..last).map(width).collect();
    let used: usize = widths.iter().map(|width| width + GAP.len()).sum();
    let left = line_width.saturating_sub(used).max(head[last].len());
    let heading: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&heading).chain(rows) {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let space = " ".repeat(width - measure_text_width(cell));
            let (before, behind) =
                if numbers.contains(&column) { (space.as_str(), "") } else { ("", space.as_str()) };
            text.extend([before, cell, behind, GAP]);
        }
        text.push_str(&truncate_str(&row[last], left, "…"));
        text.push('\n');
    }
    text
}

/// The text on one line, with what is not to be printed written out.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// Whose a letter is.
pub(crate) fn project(letter: &DeadLetter) -> String {
    match &letter.project_name {
        Some(name) => printable(name),
        None if letter.project == ProjectId(0) => "(unreadable)".to_owned(),
        None => format!("({})", letter.project),
    }
}

/// All that is known of a letter, for programs.
pub(crate) fn as_json(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "project_id": letter.project,
        "project": letter.project_name,
        "batch_id": letter.batch_id,
        "received_at": shown(letter.received_at),
        "event_index": letter.event_index,
        "events": letter.event_count,
        "sqlstate": letter.sqlstate,
        "reason": letter.reason,
        "payload_bytes": letter.payload_bytes,
        "worker_version": letter.worker_version,
        "created_at": shown(letter.created_at),
        "attempted_at": letter.attempted_at.map(shown),
        "redriven_at": letter.redriven_at.map(shown),
        "redrive_id": letter.redrive_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_is_cut_to_the_line() {
        let rows = [vec!["7".to_owned(), "shop".to_owned(), "a reason that goes on".to_owned()]];
        let text = columns(&["number", "project", "reason"], &[0], &rows, 28);
        assert_eq!(text, "number  project  reason\n     7  shop     a reason t…\n");
        let whole = columns(&["number", "project", "reason"], &[0], &rows, usize::MAX);
        assert!(whole.ends_with("a reason that goes on\n"), "{whole}");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        assert_eq!(printable("a\u{1b}[31m\nnaïve"), "a\\u{1b}[31m\\nnaïve");
    }
}
