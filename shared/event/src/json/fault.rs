//! The faults of a body: not JSON at all, or JSON that PostgreSQL cannot store.

use simd_json::ErrorType;

const UNEXPECTED: &str = "an unexpected character";
const NO_ESCAPE: &str = "a \\u escape without four hexadecimal digits";

/// Why a body cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Not JSON.
    Grammar {
        /// Byte offset; 0 when unknown.
        at: usize,
        reason: &'static str,
    },
    /// Valid by the grammar, but PostgreSQL cannot store it.
    Unstorable(Unstorable),
}

/// Valid JSON that PostgreSQL cannot store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unstorable {
    /// A `\u` escape that is half of a surrogate pair.
    LoneSurrogate,
    /// Too many digits, an exponent that is too large, or a value beyond the range of a double.
    Number,
    /// Nested too deeply.
    Depth,
}

/// Classifies the parser's error.
pub(super) fn fault_of(error: &simd_json::Error, raw: &[u8]) -> Fault {
    let at = error.index();
    let grammar_at = |at, reason| Fault::Grammar { at, reason };
    let grammar = |reason| grammar_at(if at > 0 { at } else { first_error(raw) }, reason);
    match error.error() {
        ErrorType::DepthLimitExceeded => Fault::Unstorable(Unstorable::Depth),
        // The parser's second stage reports a lone low surrogate as InvalidUtf8, the first stage invalid
        // bytes.
        ErrorType::InvalidUtf8 | ErrorType::InvalidUnicodeCodepoint if std::str::from_utf8(raw).is_ok() => {
            match lone_surrogate_or_bad_escape(raw) {
                Some(Escape::Lone) => Fault::Unstorable(Unstorable::LoneSurrogate),
                Some(Escape::Malformed { at }) => grammar_at(at, NO_ESCAPE),
                None => grammar(NO_ESCAPE),
            }
        }
        ErrorType::InvalidUtf8 => grammar("not UTF-8"),
        ErrorType::InvalidNumber | ErrorType::InvalidExponent => {
            let start =
                raw[..at.min(raw.len())].iter().rposition(|byte| !is_number_byte(*byte)).map_or(0, |p| p + 1);
            let number = number_token(raw, start);
            // `0x10` begins with a number, and is none.
            let is_whole = raw.get(start + number.len()).is_none_or(|next| b",]} \t\r\n".contains(next));
            if is_whole && check_grammar(number).is_ok() {
                Fault::Unstorable(Unstorable::Number)
            } else {
                grammar("an invalid number")
            }
        }
        ErrorType::InvalidEscape | ErrorType::InvalidUnicodeEscape => grammar("an invalid escape"),
        ErrorType::UnterminatedString => grammar("an unterminated string"),
        _ => unexpected(at, raw),
    }
}

/// The offset of the first byte that cannot be part of JSON, for an error that the parser reports without
/// one.
fn first_error(raw: &[u8]) -> usize {
    match (std::str::from_utf8(raw), check_grammar(raw)) {
        (Err(error), _) => error.valid_up_to(),
        (_, Err(error)) if error.is_syntax() => offset(raw, error.line(), error.column()),
        (_, Err(_)) => raw.len(),
        (_, Ok(())) => 0,
    }
}

/// The first byte that the grammar does not allow. `at` is used when it is not found again: simd-json often
/// reports the byte before it, and reports an early end as an unexpected character.
fn unexpected(at: usize, raw: &[u8]) -> Fault {
    let (at, reason) = match check_grammar(raw) {
        Err(error) if error.is_eof() => (raw.len(), "unexpected end"),
        Err(error) if error.is_syntax() => (offset(raw, error.line(), error.column()), UNEXPECTED),
        _ => (at, UNEXPECTED),
    };
    Fault::Grammar { at, reason }
}

/// The offset of a byte from its line and column, both counted from 1.
fn offset(raw: &[u8], line: usize, column: usize) -> usize {
    let lines_before = raw.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1));
    lines_before.map(<[u8]>::len).sum::<usize>() + column.saturating_sub(1)
}

enum Escape {
    Lone,
    /// At this offset.
    Malformed {
        at: usize,
    },
}

/// The first `\u` escape that is not a character: half of a pair, or without four hexadecimal digits. Outside
/// of strings a backslash is a grammar error, which the parser reports first.
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
            None => return Some(Escape::Malformed { at }),
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

/// Checks only the grammar, for a body in which the parser stopped early at an unstorable value.
///
/// # Errors
/// The position and the reason of the first grammar error.
pub fn check_grammar(raw: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<serde::de::IgnoredAny>(raw).map(|_| ())
}
