//! Finds a subject in texts that clients sent, which may be cut or no JSON at all.

use memchr::memmem;

/// Whether a text has the subject as a JSON string or number. A text that was cut inside a string counts when
/// the string may have been the subject.
pub(super) fn is_value(text: &[u8], subject: &str) -> bool {
    let mut begin = None;
    let mut index = 0;
    while index < text.len() {
        match (text[index], begin) {
            (b'\\', Some(_)) => index += 1,
            (b'"', None) => begin = Some(index),
            (b'"', Some(first)) => {
                if unescaped(&text[first..=index]).is_some_and(|found| found == subject) {
                    return true;
                }
                // What lies between two strings may be one, in a text that is no JSON.
                begin = None;
                let rest = &text[index..];
                if let Some(end) = memchr::memchr(b'"', &rest[1..])
                    && &rest[1..=end] == subject.as_bytes()
                {
                    return true;
                }
            }
            _ => {}
        }
        index += 1;
    }
    let is_cut = begin.is_some_and(|first| {
        let rest = &text[first + 1..];
        !rest.is_empty() && (subject.as_bytes().starts_with(rest) || rest.contains(&b'\\'))
    });
    is_cut || (is_number(subject) && is_word(text, subject))
}

/// Whether a sample may be about the subject: samples are only examples, so one too many is removed rather
/// than one too few.
pub(crate) fn is_in_sample(subject: &str, payload: Option<&[u8]>, message: &str) -> bool {
    let payload = payload.unwrap_or_default();
    is_value(payload, subject) || is_word(payload, subject) || is_word(message.as_bytes(), subject)
}

/// Whether a text has the subject, and no letter or digit before or after it.
fn is_word(text: &[u8], subject: &str) -> bool {
    let is_free = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
    memmem::find_iter(text, subject).any(|first| {
        let before = first.checked_sub(1).and_then(|index| text.get(index));
        is_free(before) && is_free(text.get(first + subject.len()))
    })
}

fn is_number(subject: &str) -> bool {
    subject.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
}

/// The text of a JSON string with its quotes.
fn unescaped(string: &[u8]) -> Option<String> {
    serde_json::from_slice(string).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_found_as_a_string_however_it_is_escaped_and_as_a_number() {
        for (text, subject) in [
            (r#"{"userId":"zoé","n":1}"#, "zoé"),
            (r#"{"userId":"zo\u00e9"}"#, "zoé"),
            (r#"{"a":"\\","userId":"a\"b"}"#, "a\"b"),
            (r#"{"userId":4711}"#, "4711"),
            (r#"no json: "u-1""#, "u-1"),
            (r#"{"userId":"u-1"#, "u-12"),
        ] {
            assert!(is_value(text.as_bytes(), subject), "{text}");
        }
    }

    #[test]
    fn a_part_of_another_string_is_not_the_subject() {
        for (text, subject) in [
            (r#"{"userId":"alice-2","note":"alice"#, "bob"),
            (r#"{"userId":"alice-2"}"#, "alice"),
            (r#"{"userId":47112}"#, "4711"),
        ] {
            assert!(!is_value(text.as_bytes(), subject), "{text}");
        }
    }

    #[test]
    fn a_sample_is_about_a_subject_that_it_names_in_any_notation() {
        assert!(is_in_sample("u-1", Some(b"user=u-1&x=2"), ""));
        assert!(is_in_sample("u-1", None, "the subject u-1 is too long"));
        assert!(!is_in_sample("u-1", Some(b"user=u-12"), ""));
    }
}
