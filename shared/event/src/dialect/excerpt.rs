//! Finds the text of single events in a body, by brackets and quotes alone, so that a refused event can be
//! shown as it was sent. It never fails: text that it cannot find is left out.
//!
//! It runs only after something was refused, and must never decide what is valid.

use super::definition::{Dialect, DocumentForms, Framing};
use crate::json;

impl Dialect {
    /// The texts of the events at these indexes, which must ascend. `None` for an event that is not found.
    pub fn texts_of<'b>(&self, body: &'b [u8], indexes: &[usize]) -> Vec<Option<&'b [u8]>> {
        let body = json::without_byte_order_mark(body);
        let mut wanted = indexes.iter().copied().peekable();
        let mut texts = Vec::with_capacity(indexes.len());
        let mut take = |index: usize, text: &'b [u8]| {
            if wanted.next_if_eq(&index).is_some() {
                texts.push(Some(text));
            }
            wanted.peek().is_some()
        };
        match self.framing {
            Framing::Lines => {
                let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
                let mut events = lines.filter(|line| !line.is_empty()).enumerate();
                events.all(|(index, line)| take(index, line));
            }
            Framing::Document(forms) => match first_element(body, forms) {
                Some(start) => each_element(body, start, take),
                None if forms.single => {
                    take(0, body.trim_ascii());
                }
                None => {}
            },
        }
        texts.resize(indexes.len(), None);
        texts
    }
}

/// The position after the bracket that opens the array of events.
fn first_element(body: &[u8], forms: DocumentForms) -> Option<usize> {
    let root = skip_blanks(body, 0);
    match (body.get(root)?, forms.envelope) {
        (b'[', _) if forms.array => Some(root + 1),
        (b'{', Some(envelope)) => array_of_member(body, root + 1, envelope),
        _ => None,
    }
}

/// The position after the bracket that opens the array of a root object's member. `at` is in the object.
fn array_of_member(body: &[u8], mut at: usize, member: &str) -> Option<usize> {
    let mut depth = 1_usize;
    while depth > 0 {
        match body.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                let end = string_end(body, at);
                let colon = skip_blanks(body, end);
                if depth == 1
                    && body.get(at + 1..end.saturating_sub(1)) == Some(member.as_bytes())
                    && body.get(colon) == Some(&b':')
                {
                    let value = skip_blanks(body, colon + 1);
                    return (body.get(value) == Some(&b'[')).then_some(value + 1);
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Passes the elements of the array that begins at `at` to `take`, with their indexes, until it returns
/// false. The last element may be cut off by the end of the body.
fn each_element<'b>(body: &'b [u8], mut at: usize, mut take: impl FnMut(usize, &'b [u8]) -> bool) {
    let (mut start, mut index, mut depth) = (at, 0, 0_usize);
    loop {
        let ends = match body.get(at) {
            Some(b'"') => {
                at = string_end(body, at);
                continue;
            }
            Some(b'{' | b'[') => {
                depth += 1;
                false
            }
            Some(b'}' | b']') if depth > 0 => {
                depth -= 1;
                false
            }
            Some(b',') => depth == 0,
            Some(b'}' | b']') | None => true,
            Some(_) => false,
        };
        if ends {
            let text = body[start..at.min(body.len())].trim_ascii();
            let is_last = body.get(at) != Some(&b',');
            // An empty array has no event.
            let is_event = !(is_last && text.is_empty());
            if !(is_event && take(index, text)) || is_last {
                return;
            }
            (start, index) = (at + 1, index + 1);
        }
        at += 1;
    }
}

/// The position after the string that begins at this quote; the end of the body if it does not end.
fn string_end(body: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while let Some(found) = body.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        if body[at + found] == b'"' {
            return at + found + 1;
        }
        at += found + 2;
    }
    body.len()
}

fn skip_blanks(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
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
    fn a_body_that_is_cut_or_no_json_at_all_ends_the_search() {
        for body in
            ["[{\"a\":\"x", "{\"events\":[1,{", "]", "", "{\"events\":", "\"", "[\"\\", "{\"events\"", "}}"]
        {
            for dialect in [&native::JSON, &native::NDJSON, &segment::BATCH] {
                assert_eq!(dialect.texts_of(body.as_bytes(), &[0, 1, 5]).len(), 3, "{body}");
            }
        }
        assert_eq!(texts(&native::JSON, r#"[NaN, {"a":-}, 1"#, &[1, 2]), [Some(r#"{"a":-}"#), Some("1")]);
    }
}
