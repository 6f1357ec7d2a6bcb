//! Cuts the text of a refused event or body for a sample, and masks keys in it: Segment's SDKs send the key
//! in the body, and a key is stored only as a hash. Pure.

use std::ops::Range;

use millrace_event::dialect::Dialect;
use millrace_event::event::Rejection;
use millrace_event::key::{CHOSEN_KEY_BYTES, KEY_PREFIX, hash_key, same_hash};

/// Most bytes of a sample's payload.
const EXCERPT_BYTES_MAX: usize = 4 << 10;
/// A key in JSON has at most this many bytes: each may be written as `\u0061`.
const KEY_TEXT_BYTES_MAX: usize = 6 * *CHOSEN_KEY_BYTES.end();
/// Shorter words that begin like a generated key are kept.
const KEY_WORD_BYTES_MIN: usize = 16;
/// Written in place of each byte of a key.
const MASK: u8 = b'*';

/// The beginning of an event or a body as it was sent, without the sender's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Excerpt(pub(super) Vec<u8>);

/// Excerpts of rejected events of a body. `key_hash` is that of the sender's key.
pub fn of_events(
    dialect: &Dialect,
    body: &[u8],
    rejected: Vec<Rejection>,
    key_hash: &[u8; 32],
) -> Vec<(Rejection, Excerpt)> {
    let indexes: Vec<_> = rejected.iter().map(|rejection| rejection.index).collect();
    let texts = dialect.texts_of(body, &indexes);
    let excerpts = texts.into_iter().map(|text| of_body(text.unwrap_or_default(), key_hash));
    rejected.into_iter().zip(excerpts).collect()
}

/// An excerpt of this text. `key_hash` is that of the sender's key.
pub fn of_body(text: &[u8], key_hash: &[u8; 32]) -> Excerpt {
    // A key that crosses the cut must be whole, or it would not be recognized.
    let mut text = text[..text.len().min(EXCERPT_BYTES_MAX + KEY_TEXT_BYTES_MAX)].to_vec();
    for part in strings_with_key(&text, key_hash) {
        text[part].fill(MASK);
    }
    for part in words_with_key(&text, key_hash) {
        text[part].fill(MASK);
    }
    if text.len() > EXCERPT_BYTES_MAX {
        // Not inside a character.
        let is_inside = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
        let mut end = EXCERPT_BYTES_MAX;
        while end > EXCERPT_BYTES_MAX - 3 && is_inside(text[end]) {
            end -= 1;
        }
        text.truncate(end);
    }
    Excerpt(text)
}

/// Where the sender's key is a JSON string, however it is escaped. What lies between two quotes is compared,
/// also outside of strings, because the text may be no JSON.
fn strings_with_key(text: &[u8], key_hash: &[u8; 32]) -> Vec<Range<usize>> {
    let is_a_key = |part: &Range<usize>| {
        let piece = &text[part.clone()];
        if !piece.contains(&b'\\') {
            return is_key(piece, key_hash);
        }
        let quoted = [b"\"", piece, b"\""].concat();
        serde_json::from_slice::<String>(&quoted).is_ok_and(|word| is_key(word.as_bytes(), key_hash))
    };
    between_quotes(text).into_iter().filter(is_a_key).collect()
}

/// The parts of a text between its quotes, except quotes after a backslash.
fn between_quotes(text: &[u8]) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'"' => {
                parts.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(start..text.len());
    parts
}

/// Where a word looks like a generated key, or is the sender's key in another notation than JSON.
fn words_with_key(text: &[u8], key_hash: &[u8; 32]) -> Vec<Range<usize>> {
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~');
    let (mut found, mut start) = (Vec::new(), 0);
    for word in text.chunk_by(|one, next| is_of_word(one) == is_of_word(next)) {
        let end = start + word.len();
        let prefix = word.windows(KEY_PREFIX.len()).position(|part| part == KEY_PREFIX.as_bytes());
        match prefix.filter(|at| word.len() - at >= KEY_WORD_BYTES_MIN) {
            Some(at) => found.push(start + at..end),
            None if is_key(word, key_hash) => found.push(start..end),
            None => {}
        }
        start = end;
    }
    found
}

fn is_key(word: &[u8], key_hash: &[u8; 32]) -> bool {
    CHOSEN_KEY_BYTES.contains(&word.len())
        && std::str::from_utf8(word).is_ok_and(|word| same_hash(&hash_key(word), key_hash))
}

#[cfg(test)]
mod tests {
    use millrace_event::dialect::native;
    use millrace_event::event::RejectionCode;

    use super::*;

    const KEY: &str = "chosen'key&of=the,shop \"never\"";

    fn cut(text: impl AsRef<[u8]>) -> String {
        String::from_utf8_lossy(&of_body(text.as_ref(), &hash_key("the-key-of-the-shop")).0).into_owned()
    }

    #[test]
    fn the_key_of_the_sender_is_masked_in_every_notation() {
        let masked = "*".repeat("the-key-of-the-shop".len());
        for (before, after) in [
            (r#"{"writeKey":""#, r#"","a":1}"#),
            ("{k:", "}"),
            ("{'k':'", "'"),
            ("writeKey=", "&batch=1"),
            ("", ""),
        ] {
            let text = format!("{before}the-key-of-the-shop{after}");
            assert_eq!(cut(&text), format!("{before}{masked}{after}"));
        }
        assert_eq!(cut(r#"{"k":"the\u002dkey-of-the-shop"}"#), format!(r#"{{"k":"*****{masked}"}}"#));
        let other = millrace_event::key::random_key();
        let hidden = "*".repeat(other.len());
        assert_eq!(
            cut(format!(r#"{{"Bearer {other}" "{other}"}}"#)),
            format!(r#"{{"Bearer {hidden}" "{hidden}"}}"#)
        );
        let quoted = serde_json::to_string(KEY).unwrap();
        let excerpt = of_body(format!(r#"{{"k":{quoted}}}"#).as_bytes(), &hash_key(KEY));
        assert_eq!(excerpt.0, format!(r#"{{"k":"{}"}}"#, "*".repeat(quoted.len() - 2)).as_bytes());
        assert_eq!(cut(r#"{"name":"mk_short and others"}"#), r#"{"name":"mk_short and others"}"#);
    }

    #[test]
    fn a_key_that_crosses_the_cut_leaves_no_part_behind() {
        for lead in EXCERPT_BYTES_MAX - 30..EXCERPT_BYTES_MAX + 2 {
            let text = format!("\"{}\",\"the-key-of-the-shop\"]", "x".repeat(lead));
            let excerpt = cut(text);
            assert!(excerpt.len() <= EXCERPT_BYTES_MAX && !excerpt.contains("the-"), "{lead}");
        }
    }

    #[test]
    fn any_bytes_are_kept_up_to_the_limit_and_no_character_is_cut() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(of_body(&bytes, &[0; 32]).0, bytes);
        for shift in 0..4 {
            let text = format!("{}{}", "x".repeat(shift), "😀".repeat(5_000));
            let excerpt = of_body(text.as_bytes(), &[0; 32]).0;
            assert!(excerpt.len() <= EXCERPT_BYTES_MAX && excerpt.len() > EXCERPT_BYTES_MAX - 4);
            assert!(std::str::from_utf8(&excerpt).is_ok(), "{shift}");
        }
        let broken = vec![0x80; 9_000];
        assert_eq!(of_body(&broken, &[0; 32]).0.len(), EXCERPT_BYTES_MAX - 3);
    }

    #[test]
    fn each_event_has_its_own_text_or_none() {
        let rejection =
            |index| Rejection { index, code: RejectionCode::TooDeep, field: None, message: String::new() };
        let rejected = vec![rejection(2), rejection(9)];
        let excerpts = of_events(&native::JSON, b"[1,2,{\"a\":3}]", rejected, &[0; 32]);
        let texts: Vec<_> = excerpts.iter().map(|(rejection, text)| (rejection.index, &text.0[..])).collect();
        assert_eq!(texts, [(2, &b"{\"a\":3}"[..]), (9, b"")]);
    }
}
