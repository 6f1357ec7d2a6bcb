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
    /// What [`find_closings`] found.
    closings: Vec<u32>,
}

impl Parser {
    fn new() -> Self {
        Self {
            buffers: Buffers::with_max_depth(STRUCTURALS_AT_START, BODY_DEPTH_MAX),
            scratch: Vec::new(),
            tape: Tape::null(),
            closings: Vec::new(),
        }
    }
}

/// Parses `raw` and passes the result to `use_it`, which may parse a text that is in the document.
pub fn parse<R>(raw: &[u8], use_it: impl for<'d> FnOnce(Result<&'d Document<'d>, Fault>) -> R) -> R {
    run(raw, |_, _, _| {}, use_it)
}

/// The same, for a body whose events are several levels deep: every container knows where it ends, so that
/// going through all levels costs no more than one.
pub fn parse_nested<R>(raw: &[u8], use_it: impl for<'d> FnOnce(Result<&'d Document<'d>, Fault>) -> R) -> R {
    run(raw, find_closings, use_it)
}

fn run<R>(
    raw: &[u8],
    find_closings: impl FnOnce(&[u8], &[u32], &mut Vec<u32>),
    use_it: impl for<'d> FnOnce(Result<&'d Document<'d>, Fault>) -> R,
) -> R {
    let mut parser = IDLE.with_borrow_mut(Vec::pop).unwrap_or_else(Parser::new);
    parser.scratch.clear();
    parser.scratch.extend_from_slice(raw);
    parser.closings.clear();
    let mut tape = std::mem::replace(&mut parser.tape, Tape::null()).reset();
    let outcome = simd_json::fill_tape(&mut parser.scratch, &mut parser.buffers, &mut tape);
    let offsets = parser.buffers.structural_indexes();
    let result = match outcome {
        Ok(()) => {
            find_closings(raw, offsets, &mut parser.closings);
            use_it(Ok(&Document::new(raw, &tape.0, offsets, &parser.closings)))
        }
        Err(error) => use_it(Err(fault_of(&error, raw))),
    };
    parser.tape = tape.reset();
    if raw.len() <= KEPT_BYTES_MAX {
        IDLE.with_borrow_mut(|idle| idle.push(parser));
    }
    result
}

/// Of every offset of an opening bracket, the index of the offset that closes it.
fn find_closings(raw: &[u8], offsets: &[u32], closings: &mut Vec<u32>) {
    closings.resize(offsets.len(), 0);
    let mut open = [0_u32; BODY_DEPTH_MAX + 1];
    let mut depth = 0;
    for (index, &at) in (0_u32..).zip(offsets) {
        match raw[at as usize] {
            b'{' | b'[' => {
                open[depth] = index;
                depth += 1;
            }
            b'}' | b']' => {
                depth -= 1;
                closings[open[depth] as usize] = index;
            }
            _ => {}
        }
    }
}

/// Skips the byte order mark with which Windows tools begin a file. RFC 8259 allows parsers to ignore it.
pub fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}
