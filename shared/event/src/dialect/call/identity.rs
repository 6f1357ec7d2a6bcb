//! Ids and names of calls: texts of any scalar kind, shortened where they are longer than their column.
//!
//! An id is shortened so that distinct ids stay distinct. The whole text is then kept in the context.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::dialect::validator::without_nul;
use crate::event::NAME_CHARS_MAX;
use crate::json::Value;

/// Bytes of the hash at the end of a shortened id, and their hexadecimal digits with the separator.
const HASH_BYTES: usize = 16;
const HASH_TEXT_BYTES: usize = 1 + 2 * HASH_BYTES;

/// A string, number or boolean as text. `None` for an empty string and for everything else.
pub(in crate::dialect) fn scalar_text<'a>(value: Option<Value<'a>>) -> Option<Cow<'a, str>> {
    match value? {
        Value::String("", _) | Value::Null | Value::Object(_) | Value::Array(_) => None,
        Value::String(text, _) => Some(without_nul(text)),
        Value::Number(bytes) | Value::Bool(bytes) => Some(String::from_utf8_lossy(bytes)),
    }
}

/// An id for a column: its start and a hash of the whole, when it is longer than `bytes_max`.
pub(in crate::dialect) fn shortened_id(id: Cow<'_, str>, bytes_max: usize) -> Cow<'_, str> {
    if id.len() <= bytes_max {
        return id;
    }
    let digest = Sha256::digest(id.as_bytes());
    let hash: String = digest[..HASH_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut end = bytes_max - HASH_TEXT_BYTES;
    while !id.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}~{hash}", &id[..end]))
}

/// A name for its column: its start, when it has more than [`NAME_CHARS_MAX`] characters.
pub(in crate::dialect) fn shortened_name(name: &str) -> Option<String> {
    let is_long = name.len() > NAME_CHARS_MAX && name.chars().nth(NAME_CHARS_MAX).is_some();
    is_long.then(|| name.chars().take(NAME_CHARS_MAX - 1).chain(['…']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ID_BYTES_MAX;

    #[test]
    fn a_shortened_id_fits_and_differs_from_that_of_any_other_id() {
        let long = "é".repeat(ID_BYTES_MAX);
        let one = shortened_id(Cow::Owned(format!("{long}1")), ID_BYTES_MAX);
        let two = shortened_id(Cow::Owned(format!("{long}2")), ID_BYTES_MAX);
        assert_ne!(one, two);
        assert!(one.len() <= ID_BYTES_MAX && one.starts_with("ééé") && one.contains('~'), "{one}");
        let fits = "i".repeat(ID_BYTES_MAX);
        assert_eq!(shortened_id(Cow::Borrowed(&fits), ID_BYTES_MAX), fits);
    }

    #[test]
    fn a_name_is_shortened_only_when_it_is_too_long() {
        assert_eq!(shortened_name(&"é".repeat(NAME_CHARS_MAX)), None);
        let name = shortened_name(&"é".repeat(NAME_CHARS_MAX + 1)).unwrap();
        assert_eq!(name, format!("{}…", "é".repeat(NAME_CHARS_MAX - 1)));
    }
}
