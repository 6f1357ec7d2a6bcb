//! Puts JSON objects that are base64 in a body in the place of their texts, so that the parser reads them
//! with the body, once and not each alone.
//!
//! It is a short cut that must never change what is read: a body that cannot be read so is read as it was
//! sent, and the dialect decodes the members itself. An object that is not closed, or closed too early, would
//! change the events around it: so each must be found again in the parsed document, with all of its bytes.
//!
//! The names are replaced at every depth, also in objects inside of an event. The text grows nowhere.

use std::ops::Range;

use base64_simd::URL_SAFE_NO_PAD;
use memchr::memmem;

use crate::json::Document;

/// A body with objects in place of their texts.
pub(super) struct DecodedBody {
    pub text: Vec<u8>,
    objects: Vec<Range<usize>>,
}

impl DecodedBody {
    /// Whether every object is one in the document that this text was parsed to.
    pub fn is_read_as_meant(&self, document: &Document<'_>) -> bool {
        self.objects.iter().all(|object| document.has_object_at(object))
    }
}

/// Decodes the members with these names. `None` if there is none that can be decoded.
pub(super) fn decoded(body: &[u8], names: &[&str]) -> Option<DecodedBody> {
    let mut texts: Vec<Range<usize>> = names.iter().flat_map(|name| texts_of(body, name)).collect();
    texts.sort_unstable_by_key(|text| text.start);
    let mut found =
        DecodedBody { text: Vec::with_capacity(body.len()), objects: Vec::with_capacity(texts.len()) };
    let mut copied = 0;
    for text in texts {
        // A name inside of a text that is replaced is no member.
        if text.start <= copied {
            continue;
        }
        let quote = text.start - 1;
        let start = found.text.len() + quote - copied;
        found.text.extend_from_slice(&body[copied..quote]);
        copied = quote;
        if URL_SAFE_NO_PAD.decode_append(without_padding(&body[text.clone()]), &mut found.text).is_ok()
            && found.text.get(start) == Some(&b'{')
            && found.text.ends_with(b"}")
        {
            found.objects.push(start..found.text.len());
            copied = text.end + 1;
        } else {
            found.text.truncate(start);
        }
    }
    found.text.extend_from_slice(&body[copied..]);
    (!found.objects.is_empty()).then_some(found)
}

/// Some trackers send padding, and others none.
fn without_padding(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    &text[..end]
}

/// Where the texts of a member are, without their quotes.
fn texts_of<'b>(body: &'b [u8], name: &str) -> impl Iterator<Item = Range<usize>> + use<'b> {
    let quoted = [b"\"", name.as_bytes(), b"\""].concat();
    let finder = memmem::Finder::new(&quoted).into_owned();
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let at = from + finder.find(&body[from..])?;
            from = at + quoted.len();
            // A quote after a backslash is inside of a string.
            if at > 0 && body[at - 1] == b'\\' {
                continue;
            }
            let Some(text) = text_after_colon(body, from) else { continue };
            from = text.end;
            return Some(text);
        }
    })
}

fn text_after_colon(body: &[u8], from: usize) -> Option<Range<usize>> {
    let skip =
        |from: usize| Some(from + body.get(from..)?.iter().position(|byte| !byte.is_ascii_whitespace())?);
    let colon = skip(from).filter(|at| body[*at] == b':')?;
    let start = skip(colon + 1).filter(|at| body[*at] == b'"')? + 1;
    Some(start..start + memchr::memchr(b'"', &body[start..])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn packed(text: &str) -> String {
        URL_SAFE_NO_PAD.encode_to_string(text)
    }

    /// The decoded text, if a parser reads it as it is meant.
    fn read(body: &str) -> Option<String> {
        let found = decoded(body.as_bytes(), &["x", "yy"])?;
        let is_meant =
            json::parse(&found.text, |parsed| parsed.is_ok_and(|document| found.is_read_as_meant(document)));
        is_meant.then(|| String::from_utf8(found.text).unwrap())
    }

    #[test]
    fn objects_are_put_in_the_place_of_their_texts() {
        let (one, two) = (packed(r#"{"a":1}"#), packed(r#"{"b":[2]}"#));
        let body = format!(r#"[{{"yy" : "{two}", "x":"{one}","z":"x"}}, {{"x":"{one}=="}}]"#);
        let expected = r#"[{"yy" : {"b":[2]}, "x":{"a":1},"z":"x"}, {"x":{"a":1}}]"#;
        assert_eq!(read(&body).as_deref(), Some(expected));
    }

    #[test]
    fn a_text_that_is_no_object_stays_and_a_name_in_a_string_is_no_member() {
        let one = packed(r#"{"a":1}"#);
        for other in ["", "%", &packed("[1]"), &packed(r#"{"a":1"#), r"e\u0033"] {
            let body = format!(r#"[{{"x":"{other}","yy":"{one}"}}]"#);
            assert_eq!(read(&body), Some(format!(r#"[{{"x":"{other}","yy":{{"a":1}}}}]"#)), "{other}");
        }
        for body in
            [r#"{"z":"\"x\":\"e30\""}"#, r#"{"x":1}"#, r#"{"x":"#, r#"{"x""#, r#"{"x":"e30"#, "", r#""x""#]
        {
            assert_eq!(read(body), None, "{body}");
        }
    }

    #[test]
    fn a_text_that_would_change_what_is_around_it_is_not_read() {
        for text in [
            r#"{},"x":{}"#,
            r#"{}},{"z":{}"#,
            r#"{}}],"data":[{"z":{}"#,
            r#"{"a":"}"#,
            r#"{"a":{}"#,
            r#"{"a":1}}"#,
            r#"{]}"#,
        ] {
            assert_eq!(read(&format!(r#"[{{"x":"{}","n":"}}"}}]"#, packed(text))), None, "{text}");
        }
    }
}
