//! JSON as it came in: every value with the bytes it was written in. No I/O in this room.
//!
//! simd-json does the reading. It finds every structural character with SIMD, checks the grammar and unescapes the
//! strings; what it does not keep is how a number was written, and a number of 40 digits must reach PostgreSQL with all
//! of them. But it shows the offsets it found, and they stand in the same order as the nodes of its tape, so the two
//! are walked side by side here: the tape gives meaning, the offsets give the bytes.
//!
//! What this room must never do: change what a client wrote, other than U+0000, which PostgreSQL cannot store and which
//! becomes U+FFFD.

mod fault;
mod number;
mod split;

use std::borrow::Cow;
use std::cell::RefCell;

use simd_json::{Buffers, Node, Tape};

pub use fault::{Fault, Unstorable, check_grammar};
pub use split::element_ranges;

use fault::fault_of;
use number::check_number;
use split::closing;

/// Deepest nesting of a whole body: an event's own depth, and the few levels a dialect wraps around it.
const BODY_DEPTH_MAX: usize = crate::event::DEPTH_MAX + 8;
/// How JSON writes U+0000.
const NUL_ESCAPE: &[u8] = b"\\u0000";
/// Parser memory that is kept between requests by each thread; what a larger body needed is given back.
const KEPT_BYTES_MAX: usize = 1 << 20;

thread_local! {
    static PARSER: RefCell<Parser> = RefCell::new(Parser::new());
}

struct Parser {
    buffers: Buffers,
    scratch: Vec<u8>,
    tape: Tape<'static>,
}

impl Parser {
    fn new() -> Self {
        Self {
            buffers: Buffers::with_max_depth(4_096, BODY_DEPTH_MAX),
            scratch: Vec::new(),
            tape: Tape::null(),
        }
    }
}

/// Parses `raw` and shows the result to `use_it`. With a fault come the offsets of all structural characters, for
/// [`element_ranges`]; none when the grammar is not met.
pub fn parse<R>(raw: &[u8], use_it: impl FnOnce(Result<Document<'_>, (Fault, &[u32])>) -> R) -> R {
    PARSER.with_borrow_mut(|parser| {
        parser.scratch.clear();
        parser.scratch.extend_from_slice(raw);
        let mut tape = std::mem::replace(&mut parser.tape, Tape::null()).reset();
        let outcome = simd_json::fill_tape(&mut parser.scratch, &mut parser.buffers, &mut tape);
        let offsets = parser.buffers.structural_indexes();
        let result = match outcome {
            Ok(()) => {
                let may_hold_nul = memchr::memmem::find(raw, NUL_ESCAPE).is_some();
                use_it(Ok(Document { raw, nodes: &tape.0, offsets, may_hold_nul }))
            }
            Err(error) => {
                let fault = fault_of(&error, raw);
                // Only the second stage finds what is unstorable, and by then every offset is known.
                let complete = matches!(fault, Fault::Unstorable(_));
                use_it(Err((fault, if complete { offsets } else { &[] })))
            }
        };
        parser.tape = tape.reset();
        if raw.len() > KEPT_BYTES_MAX {
            *parser = Parser::new();
        }
        result
    })
}

/// A parsed body.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    raw: &'a [u8],
    nodes: &'a [Node<'a>],
    offsets: &'a [u32],
    /// One search of the whole body spares a search of every value.
    may_hold_nul: bool,
}

impl<'a> Document<'a> {
    /// The value that the whole body is.
    pub fn root(self) -> Value<'a> {
        Value::at(self, Place { node: 0, offset: 0 })
    }

    /// The bytes of a scalar that begins at this place: up to the next structural character, without the white space.
    fn scalar_bytes(self, offset: usize) -> &'a [u8] {
        let start = self.offsets[offset] as usize;
        let end = self.offsets.get(offset + 1).map_or(self.raw.len(), |next| *next as usize);
        self.raw[start..end].trim_ascii_end()
    }
}

#[derive(Clone, Copy)]
struct Place {
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
    /// A string, unescaped, and as bytes with its quotes.
    String(&'a str, &'a [u8]),
    /// An object.
    Object(Container<'a>),
    /// An array.
    Array(Container<'a>),
}

impl<'a> Value<'a> {
    fn at(document: Document<'a>, place: Place) -> Self {
        let container = |len| Container { document, place, len };
        match document.nodes[place.node] {
            Node::Object { len, .. } => Self::Object(container(len)),
            Node::Array { len, .. } => Self::Array(container(len)),
            Node::String(text) => Self::String(text, document.scalar_bytes(place.offset)),
            Node::Static(_) => {
                let bytes = document.scalar_bytes(place.offset);
                match bytes[0] {
                    b'n' => Self::Null,
                    b't' | b'f' => Self::Bool(bytes),
                    _ => Self::Number(bytes),
                }
            }
        }
    }

    /// What it is, for messages.
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

    /// The value as it can be stored: checked for depth and numbers, otherwise as it was written, U+0000 replaced.
    ///
    /// # Errors
    /// [`Unstorable`].
    pub fn storable(&self) -> Result<Cow<'a, [u8]>, Unstorable> {
        let bytes: &'a [u8] = match self {
            Self::Null => b"null",
            Self::Bool(bytes) | Self::String(_, bytes) => bytes,
            Self::Number(bytes) => {
                check_number(bytes)?;
                bytes
            }
            Self::Object(container) | Self::Array(container) => {
                let bytes = container.checked_bytes()?;
                if !container.document.may_hold_nul {
                    return Ok(Cow::Borrowed(bytes));
                }
                bytes
            }
        };
        Ok(without_nul_escapes(bytes))
    }
}

/// An object or array.
#[derive(Clone, Copy)]
pub struct Container<'a> {
    document: Document<'a>,
    place: Place,
    len: usize,
}

impl<'a> Container<'a> {
    /// Members or elements in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements of an array, in order.
    pub fn elements(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut walk = Walk::into(self);
        (0..self.len).map(move |_| walk.value())
    }

    /// The members of an object, in order, with unescaped names. A name may come twice.
    pub fn members(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let mut walk = Walk::into(self);
        (0..self.len).map(move |_| {
            let name = walk.name();
            (name, walk.value())
        })
    }

    /// The member with this name; the last, when there are several, as jsonb has it.
    pub fn member(&self, name: &str) -> Option<Value<'a>> {
        self.members().filter(|(found, _)| *found == name).map(|(_, value)| value).last()
    }

    /// All bytes from the opening bracket to the closing one, after a look at every number and the depth. Grammar and
    /// strings were checked by the parser.
    fn checked_bytes(&self) -> Result<&'a [u8], Unstorable> {
        let Document { raw, offsets, .. } = self.document;
        let mut depth = 0_usize;
        let mut expansion = 0_u32;
        for (index, &at) in offsets.iter().enumerate().skip(self.place.offset) {
            let at = at as usize;
            match raw[at] {
                b'{' | b'[' => {
                    depth += 1;
                    if depth > crate::event::DEPTH_MAX {
                        return Err(Unstorable::Depth);
                    }
                }
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(&raw[offsets[self.place.offset] as usize..=at]);
                    }
                }
                b'-' | b'0'..=b'9' => {
                    expansion += check_number(self.document.scalar_bytes(index))?;
                    if expansion > crate::event::EXPONENTS_SUM_MAX {
                        return Err(Unstorable::Number);
                    }
                }
                _ => {}
            }
        }
        unreachable!("the parser has seen every bracket closed")
    }
}

/// A walk over the direct children of a container, nodes and offsets in step.
struct Walk<'a> {
    document: Document<'a>,
    at: Place,
}

impl<'a> Walk<'a> {
    /// Stands before the first child: behind the opening bracket.
    fn into(container: &Container<'a>) -> Self {
        let Place { node, offset } = container.place;
        Self { document: container.document, at: Place { node: node + 1, offset: offset + 1 } }
    }

    /// Reads a member's name and steps over its colon.
    fn name(&mut self) -> &'a str {
        let Node::String(name) = self.document.nodes[self.at.node] else {
            unreachable!("the parser lets only strings be names")
        };
        self.at.node += 1;
        self.at.offset += 2;
        name
    }

    /// Reads a value and steps over the comma or closing bracket behind it.
    fn value(&mut self) -> Value<'a> {
        let value = Value::at(self.document, self.at);
        match self.document.nodes[self.at.node] {
            Node::Object { count, .. } | Node::Array { count, .. } => {
                self.at.node += count + 1;
                self.at.offset = self.closing() + 2;
            }
            Node::String(_) | Node::Static(_) => {
                self.at.node += 1;
                self.at.offset += 2;
            }
        }
        value
    }

    /// The index of the offset that closes the container which opens here.
    fn closing(&self) -> usize {
        let Document { raw, offsets, .. } = self.document;
        closing(raw, offsets, self.at.offset).expect("the parser has seen every bracket closed")
    }
}

/// Replaces every `\u0000` by `\ufffd`; other text, such as `\\u0000`, stays.
fn without_nul_escapes(bytes: &[u8]) -> Cow<'_, [u8]> {
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
