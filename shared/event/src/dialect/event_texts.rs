//! Finds the texts of single events in a body of which events were refused, so that each can be shown as it
//! was sent. A text that it cannot find is left out.

use super::definition::{Dialect, Framing};
use crate::json::{self, Outline};

impl Dialect {
    /// The texts of the events at these indexes, which must ascend. `None` for an event that is not found.
    pub fn texts_of<'b>(&self, body: &'b [u8], indexes: &[usize]) -> Vec<Option<&'b [u8]>> {
        let body = json::without_byte_order_mark(body);
        let count = indexes.last().map_or(0, |last| last + 1);
        let texts: Vec<_> = match self.framing.forms() {
            None if matches!(self.framing, Framing::Own(_)) => Vec::new(),
            None => lines(body).take(count).collect(),
            Some(forms) => match json::outline(body, forms.envelope, count) {
                Some(Outline { events: Some(events), is_object, .. }) if is_object || forms.array => {
                    events.ranges.into_iter().map(|range| &body[range]).collect()
                }
                _ if forms.single => vec![body],
                _ => Vec::new(),
            },
        };
        indexes.iter().map(|index| texts.get(*index).map(|text| text.trim_ascii())).collect()
    }
}

/// The lines of a body that are events: all but blank ones.
pub(super) fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::{native, segment};
    use super::*;

    fn texts<'b>(dialect: &Dialect, body: &'b str, indexes: &[usize]) -> Vec<Option<&'b str>> {
        let texts = dialect.texts_of(body.as_bytes(), indexes);
        texts.into_iter().map(|text| text.map(|bytes| std::str::from_utf8(bytes).unwrap())).collect()
    }

    #[test]
    fn events_are_found_in_every_form_of_a_body() {
        let odd = r#"{"a":"]},[{\\\"", "b": [1, {"c": 2}]}"#;
        let array = format!("\u{feff} [ {{}} , {odd},\n 3 , \"x\\\\\" ]");
        assert_eq!(
            texts(&native::JSON, &array, &[0, 1, 3, 7]),
            [Some("{}"), Some(odd), Some(r#""x\\""#), None]
        );
        let envelope = format!(r#"{{"note":{{"events":[9]}},"x":"events", "events" : [7,{odd}] }}"#);
        assert_eq!(texts(&native::JSON, &envelope, &[1]), [Some(odd)]);
        assert_eq!(texts(&native::JSON, odd, &[0]), [Some(odd)]);
        assert_eq!(texts(&native::NDJSON, "\n{1}\r\n  \n{2}", &[0, 1, 2]), [Some("{1}"), Some("{2}"), None]);
        assert_eq!(texts(&segment::BATCH, r#"{"batch":[{},{"b":1}],"k":2}"#, &[1]), [Some(r#"{"b":1}"#)]);
        assert_eq!(texts(&native::JSON, "[]", &[0]), [None]);
    }

    #[test]
    fn broken_events_are_found_and_hide_no_other() {
        let body = r#"{"events":[NaN, {"a":-}, {"b":[1}, 1], "x":"y"}"#;
        assert_eq!(
            texts(&native::JSON, body, &[0, 1, 2, 3, 4]),
            [Some("NaN"), Some(r#"{"a":-}"#), Some(r#"{"b":[1}"#), Some("1"), None]
        );
    }

    #[test]
    fn a_body_of_any_bytes_has_a_text_or_none_for_each_index() {
        for body in
            ["[{\"a\":\"x", "{\"events\":[1,{", "]", "", "{\"events\":", "\"", "[\"\\", "{\"events\"", "}}"]
        {
            for dialect in [&native::JSON, &native::NDJSON, &segment::BATCH] {
                assert_eq!(dialect.texts_of(body.as_bytes(), &[0, 1, 5]).len(), 3, "{body}");
            }
        }
    }
}
