//! What is wrong with bytes that should be JSON: not JSON at all, or JSON that PostgreSQL cannot keep.

use simd_json::ErrorType;

/// Why bytes are not JSON that can be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Not JSON at all. `at` is the byte offset, as far as it is known.
    Grammar {
        /// Byte offset; 0 when unknown.
        at: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// JSON by its grammar, but PostgreSQL cannot keep it.
    Unstorable(Unstorable),
}

/// JSON that PostgreSQL cannot keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unstorable {
    /// An escaped surrogate without its partner.
    LoneSurrogate,
    /// Too many digits, or too large an exponent.
    Number,
    /// Nested too deep.
    Depth,
}

/// Reads the parser's error: which of the two it is, and where.
pub(super) fn fault_of(error: &simd_json::Error, raw: &[u8]) -> Fault {
    let at = error.index();
    let grammar = |reason| Fault::Grammar { at, reason };
    match error.error() {
        ErrorType::DepthLimitExceeded => Fault::Unstorable(Unstorable::Depth),
        // Stage two says InvalidUtf8 of a low surrogate that comes alone; stage one says it of bytes.
        ErrorType::InvalidUtf8 | ErrorType::InvalidUnicodeCodepoint if std::str::from_utf8(raw).is_ok() => {
            match lone_surrogate_or_bad_escape(raw) {
                Some(Escape::Lone) => Fault::Unstorable(Unstorable::LoneSurrogate),
                _ => grammar("a \\u escape without four hexadecimal digits"),
            }
        }
        ErrorType::InvalidUtf8 => grammar("not UTF-8"),
        ErrorType::InvalidNumber | ErrorType::InvalidExponent => {
            let start =
                raw[..at.min(raw.len())].iter().rposition(|byte| !is_number_byte(*byte)).map_or(0, |p| p + 1);
            if check_grammar(number_token(raw, start)).is_ok() {
                Fault::Unstorable(Unstorable::Number)
            } else {
                grammar("a number that JSON does not know")
            }
        }
        ErrorType::InvalidEscape | ErrorType::InvalidUnicodeEscape => {
            grammar("an escape that JSON does not know")
        }
        ErrorType::UnterminatedString => grammar("a string that does not end"),
        ErrorType::Eof => grammar("empty, or it ends too early"),
        _ => grammar("not what JSON allows here"),
    }
}

enum Escape {
    Lone,
    Malformed,
}

/// The first `\u` escape that is no character: half a pair, or not four hexadecimal digits. Backslashes stand only in
/// strings, or the grammar has failed elsewhere.
fn lone_surrogate_or_bad_escape(raw: &[u8]) -> Option<Escape> {
    let unit = |at: usize| -> Option<u16> {
        let digits = raw.get(at + 2..at + 6)?;
        let escaped = raw.get(at..at + 2)? == b"\\u" && digits.iter().all(u8::is_ascii_hexdigit);
        escaped.then(|| u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
    };
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &raw[at..]) {
        at += found;
        if raw.get(at + 1) != Some(&b'u') {
            at = (at + 2).min(raw.len());
            continue;
        }
        match unit(at) {
            None => return Some(Escape::Malformed),
            Some(0xD800..=0xDBFF) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => return Some(Escape::Lone),
            Some(_) => at += 6,
        }
    }
    None
}

fn is_number_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

fn number_token(raw: &[u8], start: usize) -> &[u8] {
    let rest = raw.get(start..).unwrap_or_default();
    &rest[..rest.iter().position(|byte| !is_number_byte(*byte)).unwrap_or(rest.len())]
}

/// Checks the grammar and nothing else: for a body in which the parser met something unstorable before its end.
///
/// # Errors
/// Where and why the bytes are not JSON.
pub fn check_grammar(raw: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<serde::de::IgnoredAny>(raw).map(|_| ())
}
