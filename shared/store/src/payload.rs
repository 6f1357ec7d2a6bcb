//! Whether two events of one identity have the same payload: name, subject and properties. Pure, and the same
//! for every store.
//!
//! The context is not compared: SDKs put the time of sending into it, so a retry differs. Properties are
//! compared as jsonb compares them: the order of members, white space and the spelling of numbers and strings
//! do not matter; of members with one name, the last counts. Payloads are compared by 64-bit hashes, so that
//! a stored event need not be kept until its repetition is compared.

use std::hash::{DefaultHasher, Hash, Hasher};

use millrace_event::row;

/// Deeper values are compared as text. The API accepts 64 levels.
const DEPTH_MAX: u32 = 128;

/// The hashes of one event's payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PayloadDigest {
    name: u64,
    subject: u64,
    properties: u64,
}

impl PayloadDigest {
    /// `properties` is JSON text.
    pub(super) fn new(name: &[u8], subject: Option<&[u8]>, properties: Option<&[u8]>) -> Self {
        Self {
            name: hash_of(name),
            subject: hash_of(subject),
            properties: hash_of(properties.map(hash_of_json)),
        }
    }

    /// Of a row from [`row::split`].
    pub(super) fn of_row(row: &[u8]) -> Self {
        let [name, subject, _, properties, _] = row::variable_fields(row);
        // Without the version byte of jsonb.
        Self::new(name.unwrap_or_default(), subject, properties.and_then(|json| json.get(1..)))
    }

    /// The fields that differ, as a text for messages; `None` when the payloads are the same.
    pub(super) fn difference(self, stored: Self) -> Option<&'static str> {
        let same =
            (self.name == stored.name, self.subject == stored.subject, self.properties == stored.properties);
        Some(match same {
            (true, true, true) => return None,
            (false, true, true) => "name",
            (true, false, true) => "subject",
            (true, true, false) => "properties",
            (false, false, true) => "name and subject",
            (false, true, false) => "name and properties",
            (true, false, false) => "subject and properties",
            (false, false, false) => "name, subject and properties",
        })
    }
}

fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The hash of a value's meaning. Text that is not JSON is hashed as it is.
fn hash_of_json(text: &[u8]) -> u64 {
    let mut reader = Reader { text, at: 0 };
    match reader.value(DEPTH_MAX) {
        Some(hash) if reader.is_at_end() => hash,
        _ => hash_of(text),
    }
}

/// Reads JSON and hashes each value. Returns `None` for text that is not JSON; it may accept a little more
/// than the grammar does.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.at == self.text.len()
    }

    fn skip_space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte that is not white space, without consuming it.
    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn value(&mut self, depth: u32) -> Option<u64> {
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => Some(hash_of((b's', self.string()?))),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: u32) -> Option<u64> {
        self.take(b'{')?;
        let mut members: Vec<(u64, u64)> = Vec::new();
        if self.peek()? != b'}' {
            loop {
                self.peek()?;
                let name = self.string()?;
                self.take(b':')?;
                members.push((name, self.value(depth)?));
                if self.peek()? != b',' {
                    break;
                }
                self.at += 1;
            }
        }
        self.take(b'}')?;
        // Stable: of members with one name, the last stays last.
        members.sort_by_key(|(name, _)| *name);
        let mut hasher = DefaultHasher::new();
        b'{'.hash(&mut hasher);
        for (index, member) in members.iter().enumerate() {
            if members.get(index + 1).is_none_or(|next| next.0 != member.0) {
                member.hash(&mut hasher);
            }
        }
        Some(hasher.finish())
    }

    fn array(&mut self, depth: u32) -> Option<u64> {
        self.take(b'[')?;
        let mut hasher = DefaultHasher::new();
        b'['.hash(&mut hasher);
        if self.peek()? != b']' {
            loop {
                self.value(depth)?.hash(&mut hasher);
                if self.peek()? != b',' {
                    break;
                }
                self.at += 1;
            }
        }
        self.take(b']')?;
        Some(hasher.finish())
    }

    /// The hash of the unescaped string.
    fn string(&mut self) -> Option<u64> {
        self.take(b'"')?;
        let rest = &self.text[self.at..];
        let end = memchr::memchr2(b'"', b'\\', rest)?;
        if rest[end] == b'"' {
            self.at += end + 1;
            return Some(hash_of(&rest[..end]));
        }
        // Escapes are rare, so serde_json may decode them.
        let mut strings =
            serde_json::Deserializer::from_slice(&self.text[self.at - 1..]).into_iter::<String>();
        let text = strings.next()?.ok()?;
        self.at += strings.byte_offset() - 1;
        Some(hash_of(text.as_bytes()))
    }

    fn word(&mut self, word: &[u8]) -> Option<u64> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())?;
        Some(hash_of((b'w', word)))
    }

    /// The hash of the number itself: `1`, `1.0` and `10e-1` are one number.
    fn number(&mut self) -> Option<u64> {
        let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
        let rest = &self.text[self.at..];
        let token = &rest[..rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len())];
        self.at += token.len();
        let (is_negative, token) = match token.strip_prefix(b"-") {
            Some(positive) => (true, positive),
            None => (false, token),
        };
        let exponent_at = token.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (digits, exponent) = match exponent_at {
            Some(at) => (&token[..at], std::str::from_utf8(&token[at + 1..]).ok()?.parse::<i64>().ok()?),
            None => (token, 0),
        };
        let point = digits.iter().position(|byte| *byte == b'.');
        let fraction_digits = point.map_or(0, |at| digits.len() - at - 1);
        let significant = |byte: &u8| *byte != b'0' && *byte != b'.';
        let Some(first) = digits.iter().position(significant) else {
            // Zero has no sign.
            return (!digits.is_empty()).then(|| hash_of((b'n', 0)));
        };
        let last = digits.iter().rposition(significant)?;
        let zeros = digits[last + 1..].iter().filter(|byte| **byte == b'0').count();
        let exponent = exponent.checked_sub(i64::try_from(fraction_digits).ok()?)?;
        let exponent = exponent.checked_add(i64::try_from(zeros).ok()?)?;
        let mut hasher = DefaultHasher::new();
        (b'n', is_negative, exponent).hash(&mut hasher);
        digits[first..=last].iter().filter(|byte| **byte != b'.').for_each(|byte| hasher.write_u8(*byte));
        Some(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        hash_of_json(one.as_bytes()) == hash_of_json(other.as_bytes())
    }

    #[test]
    fn values_that_jsonb_takes_for_equal_have_one_hash() {
        for (one, other) in [
            (r#"{"a":1,"b":[true,null]}"#, " { \"b\" : [ true , null ] , \"a\" : 1.0 } "),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":{"x":1,"y":2}}"#, r#"{"a":{"y":2,"x":1}}"#),
            (r#""caf\u00e9""#, r#""café""#),
            (r#""\ud83d\ude00\/""#, r#""😀/""#),
            ("1", "10e-1"),
            ("120", "1.2E+2"),
            ("0.00120", "12e-4"),
            ("-0.0", "0"),
            ("1e5", "100000"),
            ("0.1e1", "1"),
            ("[]", "[ ]"),
            ("{}", "{ }"),
            ("12345678901234567890123456789012345678901", "12345678901234567890123456789012345678901.00"),
        ] {
            assert!(same(one, other), "{one} and {other}");
        }
    }

    #[test]
    fn values_that_differ_have_different_hashes() {
        let values = [
            "1",
            "-1",
            "10",
            "1e10",
            "0",
            "0.1",
            "11",
            "\"1\"",
            "true",
            "false",
            "null",
            "\"true\"",
            "[]",
            "{}",
            "[1]",
            "[[1]]",
            "[1,2]",
            "[2,1]",
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"b":1}"#,
            r#"{"a":null}"#,
            r#"{"a":{"a":1}}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#""a""#,
            r#""b""#,
            r#""""#,
            r#"" ""#,
            "12345678901234567890123456789012345678901",
            "12345678901234567890123456789012345678902",
            "not json",
            "{",
            r#"{"a"}"#,
            "[1",
            "",
        ];
        for (at, one) in values.iter().enumerate() {
            for other in &values[at + 1..] {
                assert!(!same(one, other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn no_text_ends_the_process() {
        let deep = "[".repeat(100_000);
        assert!(same(&deep, &deep));
        for text in [
            "-",
            "1e",
            "1e99999999999999999999",
            "0.1e-9223372036854775808",
            "\"\\",
            "\"\\u12",
            "\"\\ud800\"",
            ".",
            "+1",
            "{\"a\":",
        ] {
            assert!(same(text, text), "{text}");
        }
        assert_ne!(hash_of_json(b"\"\xff\""), hash_of_json(b"\"\xfe\""));
    }

    #[test]
    fn the_difference_names_the_fields() {
        let digest = |name: &str, subject: Option<&str>, properties: Option<&str>| {
            PayloadDigest::new(name.as_bytes(), subject.map(str::as_bytes), properties.map(str::as_bytes))
        };
        let stored = digest("a", Some("s"), Some("{}"));
        assert_eq!(digest("a", Some("s"), Some("{ }")).difference(stored), None);
        assert_eq!(digest("b", Some("s"), None).difference(stored), Some("name and properties"));
        assert_eq!(digest("a", None, Some("{}")).difference(stored), Some("subject"));
        assert_eq!(digest("a", Some(""), Some("{}")).difference(stored), Some("subject"));
    }
}
