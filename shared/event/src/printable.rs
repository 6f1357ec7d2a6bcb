//! Text of clients for a terminal or a page: characters that would control it, or change the order in which
//! it shows others, are escaped. Pure.

/// Whether a terminal or a page would obey this character instead of showing it: control characters, marks
/// that change the direction of text, line separators, and the byte order mark.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text with such characters as Rust writes them: `\n`, `\u{1b}`.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A JSON document in which such characters are escaped, too: JSON needs it only for the first 32. Line ends
/// and tabs between values are kept.
pub fn escaped_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unprintable(c) && !matches!(c, '\n' | '\r' | '\t') {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Bytes as text. Those that are not UTF-8 are written as `\xff`.
pub fn text_of_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_control_a_terminal_are_escaped() {
        assert_eq!(printable("a\u{1b}[31m\nnaïve 名前 😀"), "a\\u{1b}[31m\\nnaïve 名前 😀");
        assert_eq!(printable("\u{9b}31m\u{7f}\u{202e}txt\u{feff}"), "\\u{9b}31m\\u{7f}\\u{202e}txt\\u{feff}");
    }

    #[test]
    fn escaped_json_has_the_same_meaning_and_controls_nothing() {
        let hostile: String = (0..=0x2100).chain(0xe0000..=0xe007f).filter_map(char::from_u32).collect();
        let value = serde_json::json!({ hostile.clone(): [hostile, 1] });
        for json in [value.to_string(), format!("{value:#}")] {
            let escaped = escaped_json(&json);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
            assert!(!escaped.chars().any(|c| is_unprintable(c) && c != '\n'));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown() {
        assert_eq!(text_of_bytes(b"{\"a\":\"\xff\xc3\xa9\xc3\"}"), "{\"a\":\"\\xffé\\xc3\"}");
    }
}
