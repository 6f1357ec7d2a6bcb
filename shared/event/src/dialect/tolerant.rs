//! Takes a body apart that the parser has refused, so that one broken event does not affect its neighbors:
//! every event is read alone, and the body is put together again without the events that cannot be read.
//!
//! This module must never change what the parser would read: it only runs after the parser has refused a
//! body.

use std::borrow::Cow;
use std::ops::Range;

use super::definition::InvalidEvents;
use super::validator::Validator;
use crate::event::{Rejection, RejectionCode};
use crate::json::{self, Elements, Fault, Value};

/// What stands for an event that cannot be read.
const PLACEHOLDER: &[u8] = b"0";
/// An event is parsed as deep as an envelope wraps it: the parser's limit on depth counts from the root.
const WRAP: (&[u8], &[u8]) = (b"[[", b"]]");

/// A body whose events are all readable.
pub(super) struct ReadableBody {
    pub text: Vec<u8>,
    /// The events in the body as sent.
    pub ranges: Vec<Range<usize>>,
    /// Ordered by index. The text has placeholders at these indexes.
    pub unreadable: Vec<Rejection>,
}

/// Reads every event of an array alone.
pub(super) fn readable(body: &[u8], events: Elements, invalid: InvalidEvents) -> ReadableBody {
    let mut text = Vec::with_capacity(body.len() + PLACEHOLDER.len() * events.ranges.len());
    let mut unreadable = Vec::new();
    let mut wrapped = Vec::new();
    let outside = |range: Range<usize>| repaired(&body[range], invalid);
    text.extend_from_slice(&outside(0..events.inside.start));
    let mut copied = events.inside.start;
    for (index, range) in events.ranges.iter().enumerate() {
        text.extend_from_slice(&body[copied..range.start]);
        copied = range.end;
        match readable_event(&body[range.clone()], invalid, &mut wrapped) {
            Ok(event) => text.extend_from_slice(&event),
            Err(fault) => {
                unreadable.push(rejection(Validator { index }, "event", &fault));
                text.extend_from_slice(PLACEHOLDER);
            }
        }
    }
    // A comma before the closing bracket has no other meaning.
    if invalid == InvalidEvents::Rejected {
        text.extend_from_slice(&body[copied..events.inside.end]);
    }
    text.extend_from_slice(&outside(events.inside.end..body.len()));
    ReadableBody { text, ranges: events.ranges, unreadable }
}

/// The first fault outside of the events, with its offset in the body.
pub(super) fn fault_outside(body: &[u8], ranges: &[Range<usize>]) -> Option<Fault> {
    let mut skeleton = body.to_vec();
    for range in ranges.iter().filter(|range| !range.is_empty()) {
        skeleton[range.clone()].fill(b' ');
        skeleton[range.start] = PLACEHOLDER[0];
    }
    json::parse(&skeleton, |parsed| parsed.err())
}

/// The event as it can be parsed, or the fault that remains.
fn readable_event<'a>(
    event: &'a [u8],
    invalid: InvalidEvents,
    wrapped: &mut Vec<u8>,
) -> Result<Cow<'a, [u8]>, Fault> {
    let Some(fault) = fault_alone(event, wrapped) else { return Ok(Cow::Borrowed(event)) };
    match repaired(event, invalid) {
        Cow::Owned(event) => match fault_alone(&event, wrapped) {
            None => Ok(Cow::Owned(event)),
            Some(fault) => Err(fault),
        },
        Cow::Borrowed(_) => Err(fault),
    }
}

fn fault_alone(event: &[u8], wrapped: &mut Vec<u8>) -> Option<Fault> {
    wrapped.clear();
    wrapped.extend([WRAP.0, event, WRAP.1].into_iter().flatten());
    json::parse(wrapped, |parsed| match parsed {
        Ok(document) if is_one_value(document.root()) => None,
        Ok(_) => Some(Fault::Grammar { at: 0, reason: "an unexpected character" }),
        Err(Fault::Grammar { at, reason }) => {
            Some(Fault::Grammar { at: at.saturating_sub(WRAP.0.len()).min(event.len()), reason })
        }
        Err(unstorable) => Some(unstorable),
    })
}

/// Whether a wrapped event is one value, and not `1],[2` or nothing.
fn is_one_value(root: Value<'_>) -> bool {
    only_element(root).and_then(only_element).is_some()
}

fn only_element(value: Value<'_>) -> Option<Value<'_>> {
    match value {
        Value::Array(array) if array.len() == 1 => array.elements().next(),
        _ => None,
    }
}

/// The bytes after all repairs that the dialect allows.
pub(super) fn repaired(raw: &[u8], invalid: InvalidEvents) -> Cow<'_, [u8]> {
    match invalid {
        InvalidEvents::Rejected => Cow::Borrowed(raw),
        InvalidEvents::DeadLettered => json::repaired(raw),
    }
}

/// The rejection of an event, or of the line that holds it.
pub(super) fn rejection(validator: Validator, what: &str, fault: &Fault) -> Rejection {
    match fault {
        Fault::Unstorable(unstorable) => validator.unstorable(None, *unstorable),
        Fault::Grammar { at, reason } => {
            let message = format!("the {what} is not valid JSON at byte {at}: {reason}");
            validator.reject(RejectionCode::InvalidJson, message)
        }
    }
}
