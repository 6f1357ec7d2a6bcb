//! A parsed document and its values, each with the bytes it was written in.
//!
//! simd-json's tape gives the meaning of each value, but not how a number was written. Its structural offsets
//! give the bytes; they have the same order as the nodes of the tape, so both advance together.

use std::borrow::Cow;
use std::ops::Range;

use simd_json::Node;

use super::fault::Unstorable;
use super::names::with_last_of_equal_names;
use super::number::check_number;
use super::seen_names::SeenNames;
use crate::event::{DEPTH_MAX, EXPONENTS_SUM_MAX};

/// The JSON escape of U+0000.
const NUL_ESCAPE: &[u8] = b"\\u0000";

/// A parsed body.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    raw: &'a [u8],
    nodes: &'a [Node<'a>],
    offsets: &'a [u32],
    /// Of the index of an opening bracket's offset the index of the offset that closes it. Empty if they were
    /// not found beforehand.
    closings: &'a [u32],
    /// Found by one search of the whole body, so that most values need no search of their own.
    may_hold_nul: bool,
}

impl<'a> Document<'a> {
    /// A document from the parser's tape and the offsets of all structural characters of `raw`.
    pub(super) fn new(raw: &'a [u8], nodes: &'a [Node<'a>], offsets: &'a [u32], closings: &'a [u32]) -> Self {
        let may_hold_nul = memchr::memmem::find(raw, NUL_ESCAPE).is_some();
        Self { raw, nodes, offsets, closings, may_hold_nul }
    }

    pub fn root(&'a self) -> Value<'a> {
        Value::at(self, Cursor { node: 0, offset: 0 })
    }

    /// Whether exactly these bytes of the text are an object.
    pub fn has_object_at(&self, range: &Range<usize>) -> bool {
        let Some(start) = u32::try_from(range.start).ok().and_then(|at| self.offsets.binary_search(&at).ok())
        else {
            return false;
        };
        self.raw[range.start] == b'{' && self.offsets[self.closing(start)] as usize == range.end - 1
    }

    /// The bytes of the scalar that begins at this offset, up to the next structural character, without white
    /// space.
    fn scalar_bytes(&self, offset: usize) -> &'a [u8] {
        let start = self.offsets[offset] as usize;
        let end = self.offsets.get(offset + 1).map_or(self.raw.len(), |next| *next as usize);
        self.raw[start..end].trim_ascii_end()
    }

    /// The index of the offset that closes the bracket at the index `opening`.
    fn closing(&self, opening: usize) -> usize {
        if let Some(closing) = self.closings.get(opening) {
            return *closing as usize;
        }
        let mut depth = 0_usize;
        for (index, &at) in self.offsets.iter().enumerate().skip(opening) {
            match self.raw[at as usize] {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return index;
                    }
                }
                _ => {}
            }
        }
        unreachable!("the parser has matched every bracket")
    }
}

/// A position in a document: an index of the tape, and the matching index of the offsets.
#[derive(Clone, Copy)]
struct Cursor {
    node: usize,
    offset: usize,
}

/// One value of a document.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`, as bytes.
    Bool(&'a [u8]),
    /// A number, as bytes.
    Number(&'a [u8]),
    /// A string: unescaped, and as bytes with its quotes.
    String(&'a str, &'a [u8]),
    Object(Container<'a>),
    Array(Container<'a>),
}

impl<'a> Value<'a> {
    fn at(document: &'a Document<'a>, cursor: Cursor) -> Self {
        let container = |len| Container { document, cursor, len };
        match document.nodes[cursor.node] {
            Node::Object { len, .. } => Self::Object(container(len)),
            Node::Array { len, .. } => Self::Array(container(len)),
            Node::String(text) => Self::String(text, document.scalar_bytes(cursor.offset)),
            Node::Static(_) => {
                let bytes = document.scalar_bytes(cursor.offset);
                match bytes[0] {
                    b'n' => Self::Null,
                    b't' | b'f' => Self::Bool(bytes),
                    _ => Self::Number(bytes),
                }
            }
        }
    }

    /// The type of the value, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(..) => "a string",
            Self::Object(_) => "an object",
            Self::Array(_) => "an array",
        }
    }

    /// The value as it was written.
    pub fn as_written(&self) -> &'a [u8] {
        match self {
            Self::Null => b"null",
            Self::Bool(bytes) | Self::Number(bytes) | Self::String(_, bytes) => bytes,
            Self::Object(container) | Self::Array(container) => container.as_written(),
        }
    }

    /// The value as it was written, with U+0000 replaced by U+FFFD, and with the last of equal names only in
    /// each object: what jsonb makes of it, so that every store has the same.
    ///
    /// # Errors
    /// [`Unstorable`] when PostgreSQL cannot store its depth or one of its numbers.
    pub fn storable(&self) -> Result<Cow<'a, [u8]>, Unstorable> {
        self.storable_counted(&mut 0)
    }

    /// As [`Value::storable`], for a part of a larger object: adds the exponents of its numbers to those of
    /// the object, which have a limit together.
    pub(crate) fn storable_counted(&self, exponents: &mut u32) -> Result<Cow<'a, [u8]>, Unstorable> {
        let bytes: &'a [u8] = match self {
            Self::Null => b"null",
            Self::Bool(bytes) => bytes,
            Self::String(_, bytes) => return Ok(without_nul_escapes(bytes)),
            Self::Number(bytes) => {
                *exponents += check_number(bytes)?;
                bytes
            }
            Self::Object(container) | Self::Array(container) => {
                let CheckedBytes { bytes, may_repeat_names, exponents: sum } = container.checked_bytes()?;
                *exponents += sum;
                return Ok(container.as_stored(Cow::Borrowed(bytes), may_repeat_names));
            }
        };
        Ok(Cow::Borrowed(bytes))
    }
}

/// The bytes of a container that can be stored.
struct CheckedBytes<'a> {
    bytes: &'a [u8],
    /// Whether an object inside may have two members of the same name.
    may_repeat_names: bool,
    /// The sum of the exponents of all numbers inside.
    exponents: u32,
}

/// An object or array.
#[derive(Clone, Copy)]
pub struct Container<'a> {
    document: &'a Document<'a>,
    cursor: Cursor,
    len: usize,
}

impl<'a> Container<'a> {
    /// The number of members or elements.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements of an array, in order.
    pub fn elements(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (mut walk, last) = (Walk::into(self), self.len.saturating_sub(1));
        (0..self.len).map(move |index| if index == last { walk.last_value() } else { walk.value() })
    }

    /// The members of an object, in order, with unescaped names. A name may appear more than once.
    pub fn members(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let (mut walk, last) = (Walk::into(self), self.len.saturating_sub(1));
        (0..self.len).map(move |index| {
            let name = walk.name();
            (name, if index == last { walk.last_value() } else { walk.value() })
        })
    }

    /// The member with this name. Of several, jsonb keeps the last, so this returns the last.
    pub fn member(&self, name: &str) -> Option<Value<'a>> {
        self.members().filter(|(found, _)| *found == name).map(|(_, value)| value).last()
    }

    /// As [`Value::storable`], without some members of this object. Nothing is copied if it has none of them.
    ///
    /// # Errors
    /// [`Unstorable`], also because of a member that is left out.
    pub fn storable_without(
        &self,
        is_left_out: impl Fn(&str, Value<'a>) -> bool,
    ) -> Result<Cow<'a, [u8]>, Unstorable> {
        let CheckedBytes { bytes, may_repeat_names, .. } = self.checked_bytes()?;
        let Document { raw, offsets, .. } = *self.document;
        let mut walk = Walk::into(self);
        let mut runs: Vec<Range<usize>> = Vec::new();
        let mut run: Option<Range<usize>> = None;
        for _ in 0..self.len {
            let start = offsets[walk.at.offset] as usize;
            let name = walk.name();
            let value = walk.value();
            // The comma or bracket that follows the member was skipped as the last.
            let end = offsets[walk.at.offset - 1] as usize;
            if is_left_out(name, value) {
                runs.extend(run.take());
            } else {
                run = Some(run.map_or(start, |run| run.start)..end);
            }
        }
        if runs.is_empty()
            && run.as_ref().is_some_and(|run| run.start == offsets[self.cursor.offset + 1] as usize)
            || self.is_empty()
        {
            return Ok(self.as_stored(Cow::Borrowed(bytes), may_repeat_names));
        }
        runs.extend(run);
        let mut kept = Vec::with_capacity(bytes.len());
        for run in runs {
            kept.push(if kept.is_empty() { b'{' } else { b',' });
            kept.extend_from_slice(&raw[run]);
        }
        if kept.is_empty() {
            kept.push(b'{');
        }
        kept.push(b'}');
        Ok(self.as_stored(Cow::Owned(kept), may_repeat_names))
    }

    /// Repeated names and U+0000 are removed from bytes of this container.
    fn as_stored(&self, bytes: Cow<'a, [u8]>, may_repeat_names: bool) -> Cow<'a, [u8]> {
        let bytes = match bytes {
            bytes if !may_repeat_names => bytes,
            Cow::Borrowed(bytes) => with_last_of_equal_names(bytes),
            Cow::Owned(bytes) => Cow::Owned(with_last_of_equal_names(&bytes).into_owned()),
        };
        match bytes {
            bytes if !self.document.may_hold_nul => bytes,
            Cow::Borrowed(bytes) => without_nul_escapes(bytes),
            Cow::Owned(bytes) => Cow::Owned(without_nul_escapes(&bytes).into_owned()),
        }
    }

    /// All bytes from the opening to the closing bracket.
    fn as_written(&self) -> &'a [u8] {
        let Document { raw, offsets, .. } = *self.document;
        let end = self.document.closing(self.cursor.offset);
        &raw[offsets[self.cursor.offset] as usize..=offsets[end] as usize]
    }

    /// All bytes from the opening to the closing bracket, after checking every number and the depth. The
    /// parser has checked grammar and strings.
    fn checked_bytes(&self) -> Result<CheckedBytes<'a>, Unstorable> {
        let Document { raw, offsets, .. } = *self.document;
        let mut depth = 0_usize;
        let mut exponents = 0_u32;
        let mut names = SeenNames::default();
        for (index, &at) in offsets.iter().enumerate().skip(self.cursor.offset) {
            let at = at as usize;
            match raw[at] {
                b'{' | b'[' => {
                    depth += 1;
                    if depth > DEPTH_MAX {
                        return Err(Unstorable::Depth);
                    }
                    names.open(depth);
                }
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        let bytes = &raw[offsets[self.cursor.offset] as usize..=at];
                        let may_repeat_names = names.may_repeat;
                        return Ok(CheckedBytes { bytes, may_repeat_names, exponents });
                    }
                }
                b'-' | b'0'..=b'9' => {
                    exponents += check_number(self.document.scalar_bytes(index))?;
                    if exponents > EXPONENTS_SUM_MAX {
                        return Err(Unstorable::Number);
                    }
                }
                b'"' => {
                    let next = offsets.get(index + 1).map_or(raw.len(), |next| *next as usize);
                    if raw.get(next) == Some(&b':') {
                        names.add(depth, &raw[at + 1..next]);
                    }
                }
                _ => {}
            }
        }
        unreachable!("the parser has matched every bracket")
    }
}

/// Walks over the direct children of a container. Nodes and offsets advance together.
struct Walk<'a> {
    document: &'a Document<'a>,
    at: Cursor,
}

impl<'a> Walk<'a> {
    /// Starts at the first child, after the opening bracket.
    fn into(container: &Container<'a>) -> Self {
        let Cursor { node, offset } = container.cursor;
        Self { document: container.document, at: Cursor { node: node + 1, offset: offset + 1 } }
    }

    /// Reads a member's name and skips its colon.
    fn name(&mut self) -> &'a str {
        let Node::String(name) = self.document.nodes[self.at.node] else {
            unreachable!("the parser accepts only strings as names")
        };
        self.at.node += 1;
        self.at.offset += 2;
        name
    }

    /// Reads the last value. Its end, which takes a search, is not needed.
    fn last_value(&self) -> Value<'a> {
        Value::at(self.document, self.at)
    }

    /// Reads a value and skips the comma or closing bracket after it.
    fn value(&mut self) -> Value<'a> {
        let value = Value::at(self.document, self.at);
        match self.document.nodes[self.at.node] {
            Node::Object { count, .. } | Node::Array { count, .. } => {
                self.at.node += count + 1;
                self.at.offset = self.document.closing(self.at.offset) + 2;
            }
            Node::String(_) | Node::Static(_) => {
                self.at.node += 1;
                self.at.offset += 2;
            }
        }
        value
    }
}

/// Replaces the escape `\u0000` by `\ufffd`. An escaped backslash before `u0000` is left unchanged.
fn without_nul_escapes(bytes: &[u8]) -> Cow<'_, [u8]> {
    // Most texts have no escape at all, and a search for one byte needs no preparation.
    if memchr::memchr(b'\\', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut replaced: Option<Vec<u8>> = None;
    for at in memchr::memmem::find_iter(bytes, NUL_ESCAPE) {
        let backslashes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes % 2 == 0 {
            replaced.get_or_insert_with(|| bytes.to_vec())[at..at + NUL_ESCAPE.len()]
                .copy_from_slice(b"\\ufffd");
        }
    }
    replaced.map_or(Cow::Borrowed(bytes), Cow::Owned)
}
