//! Figures as CSV (RFC 4180). Pure.

use hyper::StatusCode;
use millrace_store::MeterRow;

use super::figures::moment;
use super::question::{Question, SUBJECT};
use crate::answer::{self, Answer};
use crate::parameters::shown;

/// The names of the columns in one interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    start: &'static str,
    end: &'static str,
    /// Whether there is a column with the number of events.
    has_events: bool,
    /// Whether there is a column for the subject, even if the rows are of no one subject.
    has_subject: bool,
}

pub(super) const NATIVE: Columns =
    Columns { start: "start", end: "end", has_events: true, has_subject: false };
pub(super) const OPENMETER: Columns =
    Columns { start: "window_start", end: "window_end", has_events: false, has_subject: true };

/// One line for the names of the columns, and one for each row. A group without a value is empty.
pub(super) fn of_figures(question: &Question, rows: &[MeterRow], columns: Columns) -> Answer {
    let has_subject = columns.has_subject || question.group_by.iter().any(|name| name == SUBJECT);
    let groups = question.group_by.iter().filter(|name| *name != SUBJECT).cloned();
    let optional = |is_there: bool, text: &str| is_there.then(|| text.to_owned());
    let mut text = String::new();
    let head = [columns.start, columns.end].map(str::to_owned).into_iter();
    let head = head.chain(optional(has_subject, SUBJECT)).chain(groups);
    push_line(&mut text, head.chain(optional(columns.has_events, "events")).chain(["value".to_owned()]));
    for row in rows {
        let times = [row.start_us, row.end_us].map(|us| shown(moment(us))).into_iter();
        let groups = row.groups.iter().map(|value| value.clone().unwrap_or_default());
        let keys =
            times.chain(optional(has_subject, row.subject.as_deref().unwrap_or_default())).chain(groups);
        push_line(
            &mut text,
            keys.chain(columns.has_events.then(|| row.events.to_string())).chain([row.value.clone()]),
        );
    }
    answer::with_type(StatusCode::OK, "text/csv; charset=utf-8; header=present", text.into())
}

fn push_line(text: &mut String, fields: impl Iterator<Item = String>) {
    for (index, field) in fields.enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_field(text, &field);
    }
    text.push_str("\r\n");
}

/// A field is quoted only if it must be.
fn push_field(text: &mut String, field: &str) {
    if !field.contains([',', '"', '\r', '\n']) {
        text.push_str(field);
        return;
    }
    text.push('"');
    text.push_str(&field.replace('"', "\"\""));
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_quoted_if_it_has_a_comma_a_quote_or_a_line_end() {
        let mut text = String::new();
        let fields = ["a", "1,5", "say \"hi\"", "", "x\ny"].map(str::to_owned);
        push_line(&mut text, fields.into_iter());
        assert_eq!(text, "a,\"1,5\",\"say \"\"hi\"\"\",,\"x\ny\"\r\n");
    }
}
