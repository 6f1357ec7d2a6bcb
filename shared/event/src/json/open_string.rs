//! Strings whose closing quote is missing, such as one that was cut, or one that ends with an escaped quote
//! (`"C:\"`). Such a string seems to end with the first quote of the next event, which no delimiter follows,
//! or never. It ends before the brackets that close its own event.
//!
//! This module must never change where a string of valid JSON ends.

/// Where a string ends, as the offset after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StringEnd {
    /// After its closing quote.
    Quote(usize),
    /// Before the brackets that close its event: the next quote belongs to something else.
    Item(usize),
    /// Before the brackets at the end of the body: no quote follows.
    Body(usize),
}

impl StringEnd {
    pub(super) fn offset(self) -> usize {
        match self {
            Self::Quote(at) | Self::Item(at) | Self::Body(at) => at,
        }
    }
}

/// The length of an open string, with its quote, that ends with the beginning of the next event (`}, {`) or
/// with the end of the events (`}],`): without the brackets and what follows them.
pub(super) fn before_next_item(open: &[u8]) -> Option<usize> {
    let text = open.trim_ascii_end();
    let (events, text) = match text.strip_suffix(b"{") {
        Some(text) => {
            let text = before_comma(text)?;
            (text, text)
        }
        None => {
            let text = before_comma(text)?;
            (text.strip_suffix(b"]")?.trim_ascii_end(), text)
        }
    };
    if events.ends_with(b"}") { before_brackets(text) } else { None }
}

fn before_comma(text: &[u8]) -> Option<&[u8]> {
    text.trim_ascii_end().strip_suffix(b",").map(<[u8]>::trim_ascii_end)
}

/// The length of an open string, with its quote, without the closing brackets at its end. `None` when it has
/// none.
pub(super) fn before_brackets(open: &[u8]) -> Option<usize> {
    let is_kept = |byte: &u8| !matches!(byte, b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
    let length = open.iter().rposition(is_kept).map_or(0, |last| last + 1);
    open[length..].iter().any(|byte| matches!(byte, b'}' | b']')).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_string_ends_before_the_brackets_of_its_event() {
        let kept = |open: &'static str| before_next_item(open.as_bytes()).map(|length| &open[..length]);
        for (open, expected) in [
            ("\"abc}},{", Some("\"abc")),
            ("\"C:\\\"} }\n , { ", Some("\"C:\\\"")),
            ("\"}]},{", Some("\"")),
            ("\"abc}}],", Some("\"abc")),
            ("\"abc},", None),
            ("\"abc],", None),
            ("\"abc{", None),
            ("\"},{x", None),
            ("\"", None),
        ] {
            assert_eq!(kept(open), expected, "{open}");
        }
        assert_eq!(before_brackets(b"\"abc }}\n]}\n"), Some(4));
        assert_eq!(before_brackets(b"\"abc \n"), None);
    }
}
