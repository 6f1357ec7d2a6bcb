//! Letters as text and as JSON. Text must never contain control characters, which a terminal would obey.

use std::io::{IsTerminal, stdout};

use console::truncate_str;
use millrace_event::plan::ProjectId;
use millrace_store::DeadLetter;
use serde_json::{Value, json};

use crate::moment::shown;
use crate::output::table;
use crate::terminal;

/// A table whose last column may be long. Its lines are cut to the width of the terminal, if there is one.
pub(crate) fn cut_table(head: &[&str], rows: &[Vec<String>]) -> String {
    let whole = table(head, rows);
    if stdout().is_terminal() { cut(&whole, terminal::columns()) } else { whole }
}

fn cut(text: &str, columns: usize) -> String {
    text.lines().flat_map(|line| [truncate_str(line, columns, "…"), "\n".into()]).collect()
}

/// The text with its control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

pub(crate) fn project(letter: &DeadLetter) -> String {
    match &letter.project_name {
        Some(name) => printable(name),
        None if letter.project == ProjectId(0) => "(unreadable)".to_owned(),
        None => format!("({})", letter.project),
    }
}

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
        "code": letter.code,
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
    fn lines_are_cut_to_the_width_of_the_terminal() {
        assert_eq!(cut("a reason\n名前 and more\n", 7), "a reas…\n名前 a…\n");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[31m\nnaïve"), "a\\u{1b}[31m\\nnaïve");
    }
}
