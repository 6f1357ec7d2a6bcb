//! Runs simd-json on a body, with memory that each thread reuses.

use std::cell::RefCell;

use simd_json::{Buffers, Tape};

use super::fault::{Fault, fault_of};
use super::value::Document;

/// Deepest nesting of a whole body: an event's own depth, and the levels that a dialect wraps around it.
const BODY_DEPTH_MAX: usize = crate::event::DEPTH_MAX + 8;
/// After a body larger than this, a thread frees its parser's memory instead of keeping it.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Structural characters for which a new parser has room.
const STRUCTURALS_AT_START: usize = 4_096;

thread_local! {
    /// The parsers of this thread that are not in use: one, and one more for each level at which a text
    /// inside of a document was parsed while the document was in use.
    static IDLE: RefCell<Vec<Parser>> = const { RefCell::new(Vec::new()) };
}

struct Parser {
    buffers: Buffers,
    scratch: Vec<u8>,
    tape: Tape<'static>,
}

impl Parser {
    fn new() -> Self {
        Self {
            buffers: Buffers::with_max_depth(STRUCTURALS_AT_START, BODY_DEPTH_MAX),
            scratch: Vec::new(),
            tape: Tape::null(),
        }
    }
}

/// Parses `raw` and passes the result to `use_it`, which may parse a text that is in the document.
pub fn parse<R>(raw: &[u8], use_it: impl for<'d> FnOnce(Result<&'d Document<'d>, Fault>) -> R) -> R {
    let mut parser = IDLE.with_borrow_mut(Vec::pop).unwrap_or_else(Parser::new);
    parser.scratch.clear();
    parser.scratch.extend_from_slice(raw);
    let mut tape = std::mem::replace(&mut parser.tape, Tape::null()).reset();
    let outcome = simd_json::fill_tape(&mut parser.scratch, &mut parser.buffers, &mut tape);
    let offsets = parser.buffers.structural_indexes();
    let result = match outcome {
        Ok(()) => use_it(Ok(&Document::new(raw, &tape.0, offsets))),
        Err(error) => use_it(Err(fault_of(&error, raw))),
    };
    parser.tape = tape.reset();
    if raw.len() <= KEPT_BYTES_MAX {
        IDLE.with_borrow_mut(|idle| idle.push(parser));
    }
    result
}

/// Skips the byte order mark with which Windows tools begin a file. RFC 8259 allows parsers to ignore it.
pub fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}
