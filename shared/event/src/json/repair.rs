//! Repairs of JSON that has one clear meaning although the grammar or PostgreSQL refuses it, on bytes.
//!
//! | written | becomes |
//! |---|---|
//! | `NaN`, `Infinity`, `-Infinity`, `inf`, `-inf`, in any case | `null` |
//! | a raw control character in a string | its escape; U+0000 becomes U+FFFD |
//! | bytes in a string that are not UTF-8 | U+FFFD |
//! | a `\u` escape that is half of a surrogate pair, also in a name | `\ufffd` |
//!
//! This module must never change bytes that PostgreSQL would store, nor guess where a string or an object
//! ends.

use std::borrow::Cow;

const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();
const REPLACEMENT_ESCAPE: &[u8] = b"\\ufffd";

/// The bytes with every repair made. The result may still be invalid.
pub fn repaired(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut repair = Repair { raw, out: Vec::new(), copied: 0 };
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at = match byte {
            b'"' => repair.string(at + 1),
            byte if is_delimiter(byte) => at + 1,
            _ => {
                let end = raw[at..].iter().position(|byte| is_delimiter(*byte)).map_or(raw.len(), |n| at + n);
                if is_no_number(&raw[at..end]) {
                    repair.replace(at, end, b"null");
                }
                end
            }
        };
    }
    if repair.copied == 0 {
        return Cow::Borrowed(raw);
    }
    repair.out.extend_from_slice(&raw[repair.copied..]);
    Cow::Owned(repair.out)
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"')
}

/// Whether a token is one of the doubles that JSON cannot express, as printed by Python, JavaScript, C or
/// Java.
fn is_no_number(token: &[u8]) -> bool {
    let unsigned = token.strip_prefix(b"-").or(token.strip_prefix(b"+")).unwrap_or(token);
    [&b"nan"[..], b"infinity", b"inf"].iter().any(|known| unsigned.eq_ignore_ascii_case(known))
}

/// The UTF-16 unit of a `\u` escape at this offset.
fn escaped_unit(raw: &[u8], at: usize) -> Option<u16> {
    let digits = raw.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let is_escape = digits.iter().all(u8::is_ascii_hexdigit);
    is_escape.then(|| u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

struct Repair<'a> {
    raw: &'a [u8],
    out: Vec<u8>,
    /// How much of `raw` is in `out`.
    copied: usize,
}

impl Repair<'_> {
    fn replace(&mut self, start: usize, end: usize, with: &[u8]) {
        self.out.extend_from_slice(&self.raw[self.copied..start]);
        self.out.extend_from_slice(with);
        self.copied = end;
    }

    /// Repairs a string, and returns the offset after it.
    fn string(&mut self, start: usize) -> usize {
        let mut at = start;
        while let Some(&byte) = self.raw.get(at) {
            at = match byte {
                b'"' => return at + 1,
                b'\\' => self.escape(at),
                0..0x20 => {
                    match byte {
                        0 => self.replace(at, at + 1, REPLACEMENT_ESCAPE),
                        _ => self.replace(at, at + 1, format!("\\u{byte:04x}").as_bytes()),
                    }
                    at + 1
                }
                0x80.. => self.not_ascii(at),
                _ => at + 1,
            };
        }
        at
    }

    fn escape(&mut self, at: usize) -> usize {
        match escaped_unit(self.raw, at) {
            Some(0xD800..=0xDBFF) if matches!(escaped_unit(self.raw, at + 6), Some(0xDC00..=0xDFFF)) => {
                at + 12
            }
            Some(0xD800..=0xDFFF) => {
                self.replace(at, at + 6, REPLACEMENT_ESCAPE);
                at + 6
            }
            Some(_) => at + 6,
            None => at + 2,
        }
    }

    /// Bytes from 0x80 are never part of an ASCII character, so a run of them is UTF-8 or not by itself.
    fn not_ascii(&mut self, start: usize) -> usize {
        let run = &self.raw[start..];
        let run = &run[..run.iter().position(u8::is_ascii).unwrap_or(run.len())];
        let mut at = start;
        for chunk in run.utf8_chunks() {
            at += chunk.valid().len();
            if !chunk.invalid().is_empty() {
                self.replace(at, at + chunk.invalid().len(), REPLACEMENT);
                at += chunk.invalid().len();
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repair_has_one_meaning() {
        for (raw, expected) in [
            (&b"[NaN,Infinity,-Infinity, nan ,inf,-inf]"[..], "[null,null,null, null ,null,null]"),
            (br#"{"NaN":"Infinity"}"#, r#"{"NaN":"Infinity"}"#),
            (b"\"a\tb\nc\x01d\0e\"", r#""a\u0009b\u000ac\u0001d\ufffde""#),
            (b"\"\xFFa\xC3\"", "\"\u{FFFD}a\u{FFFD}\""),
            ("\"\u{FC}\u{1F600}\"".as_bytes(), "\"\u{FC}\u{1F600}\""),
            (br#"{"\ud83d":"\ude00 \ud83d\ude00"}"#, r#"{"\ufffd":"\ufffd \ud83d\ude00"}"#),
            (br#""\\ud83d \\\ud83d \ud83d\ud83d\ude00""#, r#""\\ud83d \\\ufffd \ufffd\ud83d\ude00""#),
            (br#""\u0000 \x \u12""#, r#""\u0000 \x \u12""#),
            (b"[undefined,1e400,-,nano,\"\\", "[undefined,1e400,-,nano,\"\\"),
        ] {
            assert_eq!(String::from_utf8_lossy(&repaired(raw)), expected);
        }
    }
}
