//! Cuts what a client sent for owners and operators, and masks keys in it: SDKs send the key in the body, and
//! a key is stored only as a hash.
//!
//! Everything that keeps the text of a client outside of an event uses this module: samples of what was
//! refused, and calls that no event can be made of. It must never pass on a key of the sender.

use std::ops::Range;

use crate::json;
use crate::key::{CHOSEN_KEY_BYTES, KEY_MEMBER, KEY_PREFIX, hash_key, same_hash};

/// A key in JSON has at most this many bytes: each may be written as `\u0061`.
const KEY_TEXT_BYTES_MAX: usize = 6 * *CHOSEN_KEY_BYTES.end();
/// Shorter words that begin like a generated key are kept.
const KEY_WORD_BYTES_MIN: usize = 16;
/// Written in place of each byte of a key.
const MASK: u8 = b'*';

/// The beginning of a text of any bytes, at most `bytes_max` of them, without keys: the values of members
/// named [`KEY_MEMBER`], words that look like a generated key, and the key with this hash in any notation.
/// `key_hash` is that of the sender's key, where it is known.
pub fn excerpt(text: &[u8], bytes_max: usize, key_hash: Option<&[u8; 32]>) -> Vec<u8> {
    // A key that crosses the cut must be whole, or it would not be recognized.
    let mut text = text[..text.len().min(bytes_max + KEY_TEXT_BYTES_MAX)].to_vec();
    let quoted = [json::strings_of_members(&text, KEY_MEMBER), strings_with_key(&text, key_hash)];
    for part in quoted.into_iter().flatten() {
        text[part].fill(MASK);
    }
    for part in words_with_key(&text, key_hash) {
        text[part].fill(MASK);
    }
    cut(&mut text, bytes_max);
    text
}

/// Cuts a text, but not inside a character.
fn cut(text: &mut Vec<u8>, bytes_max: usize) {
    if text.len() <= bytes_max {
        return;
    }
    let is_inside = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    let least = bytes_max.saturating_sub(3);
    let end = (least..=bytes_max).rev().find(|&at| !is_inside(text[at]));
    text.truncate(end.unwrap_or(least));
}

/// Where the sender's key is a JSON string, however it is escaped. What lies between two quotes is compared,
/// also outside of strings, because the text may be no JSON.
fn strings_with_key(text: &[u8], key_hash: Option<&[u8; 32]>) -> Vec<Range<usize>> {
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
fn words_with_key(text: &[u8], key_hash: Option<&[u8; 32]>) -> Vec<Range<usize>> {
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

fn is_key(word: &[u8], key_hash: Option<&[u8; 32]>) -> bool {
    let Some(key_hash) = key_hash.filter(|_| CHOSEN_KEY_BYTES.contains(&word.len())) else { return false };
    std::str::from_utf8(word).is_ok_and(|word| same_hash(&hash_key(word), key_hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 4 << 10;
    const KEY: &str = "chosen'key&of=the,shop \"never\"";

    fn shown(text: impl AsRef<[u8]>) -> String {
        let hash = hash_key("the-key-of-the-shop");
        String::from_utf8_lossy(&excerpt(text.as_ref(), MAX, Some(&hash))).into_owned()
    }

    #[test]
    fn the_key_of_the_sender_is_masked_in_every_notation() {
        let masked = "*".repeat("the-key-of-the-shop".len());
        for (before, after) in
            [(r#"{"k":""#, r#"","a":1}"#), ("{k:", "}"), ("{'k':'", "'"), ("writeKey=", "&batch=1"), ("", "")]
        {
            let text = format!("{before}the-key-of-the-shop{after}");
            assert_eq!(shown(&text), format!("{before}{masked}{after}"));
        }
        assert_eq!(shown(r#"{"k":"the\u002dkey-of-the-shop"}"#), format!(r#"{{"k":"*****{masked}"}}"#));
        let other = crate::key::random_key();
        let hidden = "*".repeat(other.len());
        assert_eq!(
            shown(format!(r#"{{"Bearer {other}" "{other}"}}"#)),
            format!(r#"{{"Bearer {hidden}" "{hidden}"}}"#)
        );
        let quoted = serde_json::to_string(KEY).unwrap();
        let masked = excerpt(format!(r#"{{"k":{quoted}}}"#).as_bytes(), MAX, Some(&hash_key(KEY)));
        assert_eq!(masked, format!(r#"{{"k":"{}"}}"#, "*".repeat(quoted.len() - 2)).as_bytes());
        assert_eq!(shown(r#"{"name":"mk_short and others"}"#), r#"{"name":"mk_short and others"}"#);
    }

    #[test]
    fn a_key_that_crosses_the_cut_leaves_no_part_behind() {
        for lead in MAX - 30..MAX + 2 {
            let text = format!("\"{}\",\"the-key-of-the-shop\"]", "x".repeat(lead));
            let excerpt = shown(text);
            assert!(excerpt.len() <= MAX && !excerpt.contains("the-"), "{lead}");
        }
    }

    #[test]
    fn any_bytes_are_kept_up_to_the_limit_and_no_character_is_cut() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(excerpt(&bytes, MAX, None), bytes);
        for shift in 0..4 {
            let text = format!("{}{}", "x".repeat(shift), "😀".repeat(5_000));
            let excerpt = excerpt(text.as_bytes(), MAX, None);
            assert!(excerpt.len() <= MAX && excerpt.len() > MAX - 4);
            assert!(std::str::from_utf8(&excerpt).is_ok(), "{shift}");
        }
        let broken = vec![0x80; 9_000];
        assert_eq!(excerpt(&broken, MAX, None).len(), MAX - 3);
    }

    #[test]
    fn the_value_of_a_write_key_is_masked_whichever_key_it_is() {
        for (sent, kept) in [
            (r#"{"writeKey":"another","a":1}"#, r#"{"writeKey":"*******","a":1}"#),
            (r#"{"a":{"write\u004bey" : "an\"other"}}"#, r#"{"a":{"write\u004bey" : "*********"}}"#),
            (r#"{"writeKey":"cut off"#, r#"{"writeKey":"*******"#),
            (r#"{"writeKey":7,"x":"writeKey","y":"z"}"#, r#"{"writeKey":7,"x":"writeKey","y":"z"}"#),
        ] {
            assert_eq!(excerpt(sent.as_bytes(), MAX, None), kept.as_bytes());
        }
    }
}
