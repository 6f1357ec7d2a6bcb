//! A JSON object that is written member by member.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::dialect::validator::without_nul;
use crate::json::with_last_of_equal_names;

/// An object with more members than this is searched by a hash.
const COMPARED_MAX: usize = 16;

/// Room for what most calls have, so that it is not found step by step.
const BYTES_AT_START: usize = 256;
const NAMES_AT_START: usize = 16;

/// An object that is being written. Of equal names, the last one added remains.
#[derive(Default)]
pub(in crate::dialect) struct ObjectWriter<'a> {
    text: Vec<u8>,
    names: Vec<Cow<'a, str>>,
}

impl<'a> ObjectWriter<'a> {
    pub(in crate::dialect) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Adds a member whose value is JSON.
    pub(in crate::dialect) fn add(&mut self, name: impl Into<Cow<'a, str>>, json: &[u8]) {
        let name = name.into();
        if self.names.is_empty() {
            self.text.reserve(BYTES_AT_START);
            self.names.reserve(NAMES_AT_START);
        }
        push_member(&mut self.text, &name, json);
        self.names.push(name);
    }

    /// Adds a member whose value `write` appends.
    pub(in crate::dialect) fn add_with<E>(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.add(name, b"");
        write(&mut self.text)
    }

    /// The members so far, as JSON without the closing bracket.
    pub(in crate::dialect) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The object; `None` if it has no member.
    pub(in crate::dialect) fn finish(mut self) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        self.text.push(b'}');
        if has_equal(&self.names) {
            return Some(with_last_of_equal_names(&self.text).into_owned());
        }
        Some(self.text)
    }
}

fn has_equal(names: &[Cow<'_, str>]) -> bool {
    if names.len() > COMPARED_MAX {
        return names.iter().collect::<HashSet<_>>().len() < names.len();
    }
    names.iter().enumerate().any(|(index, name)| names[index + 1..].contains(name))
}

/// Appends a member to an object, and opens the object if nothing is there.
pub(in crate::dialect) fn push_member(object: &mut Vec<u8>, name: &str, json: &[u8]) {
    object.push(if object.is_empty() { b'{' } else { b',' });
    push_string(object, name);
    object.push(b':');
    object.extend_from_slice(json);
}

/// Appends a text as JSON, with U+FFFD for U+0000, which PostgreSQL does not store.
pub(in crate::dialect) fn push_string(out: &mut Vec<u8>, text: &str) {
    let is_escaped = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    // Most texts have nothing to escape, which a pass without branches finds out.
    if text.bytes().fold(false, |found, byte| found | is_escaped(byte)) {
        serde_json::to_writer(out, &*without_nul(text)).expect("a string is JSON, and memory takes it");
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Appends the members of another object, and closes the object.
pub(in crate::dialect) fn close_with(object: &mut Vec<u8>, other: Option<&[u8]>) {
    let members = other.map_or(&b""[..], |other| other[1..other.len() - 1].trim_ascii());
    if !members.is_empty() {
        object.push(if object.is_empty() { b'{' } else { b',' });
        object.extend_from_slice(members);
    }
    object.push(b'}');
}
