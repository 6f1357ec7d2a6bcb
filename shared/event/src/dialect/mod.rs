//! From a request body to a batch: one file for each wire format, and the steps they share here. No I/O in this room.
//!
//! One bad event does not cost its neighbours. What an event may be refused for is told by its reader; and when the
//! parser refuses a whole body because of one number or one half of a surrogate pair, the body is cut into its events,
//! the culprits are set aside, and the rest is read again.

mod native;
mod reader;
mod segment;

use std::ops::Range;

use reader::{EventReader, Reading};

use crate::event::{Batch, Origin, Rejection, RejectionCode};
use crate::json::{self, Container, Document, Fault, Value};

/// How a body is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `{"events":[…]}`, a bare array, or one event object.
    Native,
    /// One native event object a line (NDJSON).
    NativeLines,
    /// Segment's batch: `{"batch":[…]}`.
    SegmentBatch,
    /// One Segment call, of the type the path names.
    SegmentCall(&'static str),
}

/// Why no batch could be made of a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BodyError {
    /// Not JSON, or not of the dialect's form.
    InvalidJson {
        /// What is wrong, and where.
        message: String,
    },
    /// Well-formed, with no event in it.
    EmptyBatch,
    /// More events than the limit.
    TooManyEvents {
        /// Events in the body.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Events, none of them valid.
    NoValidEvent {
        /// What is wrong with each.
        rejected: Vec<Rejection>,
    },
}

/// Reads a decompressed body. The events that are valid make the batch; those that are not are reported in it.
///
/// # Errors
/// [`BodyError`] when there is no valid event in it.
pub fn read(dialect: Dialect, body: &[u8], origin: Origin, events_max: usize) -> Result<Batch, BodyError> {
    // Windows tools begin a file with a byte order mark; RFC 8259 lets us pass over it.
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let call = Call { dialect, origin, events_max };
    let batch = match dialect {
        Dialect::NativeLines => call.read_lines(body)?,
        Dialect::Native | Dialect::SegmentBatch | Dialect::SegmentCall(_) => call.read_body(body)?,
    };
    match (batch.count, batch.rejected.is_empty()) {
        (0, true) => Err(BodyError::EmptyBatch),
        (0, false) => Err(BodyError::NoValidEvent { rejected: batch.rejected }),
        _ => Ok(batch),
    }
}

/// The `writeKey` in a Segment body, where SDKs put it that send no `Authorization`.
pub fn segment_write_key(body: &[u8]) -> Option<String> {
    json::parse(body, |parsed| match parsed.ok()?.root() {
        Value::Object(root) => segment::write_key(root),
        _ => None,
    })
}

#[derive(Clone, Copy)]
struct Call {
    dialect: Dialect,
    origin: Origin,
    events_max: usize,
}

impl Call {
    fn read_body(self, body: &[u8]) -> Result<Batch, BodyError> {
        let first = json::parse(body, |parsed| match parsed {
            Ok(document) => Ok(self.read_document(document, &[])),
            Err((Fault::Grammar { at, reason }, _)) => Ok(Err(invalid_json(at, reason))),
            Err((Fault::Unstorable(_), offsets)) => {
                Err(json::element_ranges(body, offsets, self.envelope()).unwrap_or_else(|| whole(body)))
            }
        });
        match first {
            Ok(result) => result,
            Err(events) => self.read_around_culprits(body, &events),
        }
    }

    /// Reads a body of which the parser has refused something storable nowhere: every event on its own first, then the
    /// whole with the culprits blanked out.
    fn read_around_culprits(self, body: &[u8], events: &[Range<usize>]) -> Result<Batch, BodyError> {
        if events.len() > self.events_max {
            return Err(BodyError::TooManyEvents { found: events.len(), max: self.events_max });
        }
        json::check_grammar(body)
            .map_err(|error| BodyError::InvalidJson { message: format!("the body is not JSON: {error}") })?;
        let mut blanked = body.to_vec();
        let mut culprits = Vec::new();
        for (index, range) in events.iter().enumerate() {
            // Wrapped as deep as an envelope wraps it: the parser's limit on depth counts from the body's root.
            let wrapped = [b"[[", &body[range.clone()], b"]]"].concat();
            let fault = json::parse(&wrapped, |parsed| parsed.err().map(|(fault, _)| fault));
            if let Some(Fault::Unstorable(what)) = fault {
                blanked[range.clone()].fill(b' ');
                blanked[range.start] = b'0';
                culprits.push(Reading { index }.unstorable(None, what));
            }
        }
        json::parse(&blanked, |parsed| match parsed {
            Ok(document) => self.read_document(document, &culprits),
            Err((Fault::Grammar { at, reason }, _)) => Err(invalid_json(at, reason)),
            Err((Fault::Unstorable(_), _)) => Err(BodyError::InvalidJson {
                message: "the envelope holds a value that cannot be kept".to_owned(),
            }),
        })
    }

    fn envelope(self) -> &'static str {
        match self.dialect {
            Dialect::Native | Dialect::NativeLines => native::ENVELOPE,
            Dialect::SegmentBatch | Dialect::SegmentCall(_) => segment::ENVELOPE,
        }
    }

    /// Reads the events of a document. `culprits` are rejections known before, in order; their places hold no event.
    fn read_document(self, document: Document<'_>, culprits: &[Rejection]) -> Result<Batch, BodyError> {
        let root = document.root();
        if let Value::Object(envelope) = root
            && envelope.members().filter(|(name, _)| *name == self.envelope()).count() > 1
        {
            let message = format!("{:?} stands twice, and only one of them could be read", self.envelope());
            return Err(BodyError::InvalidJson { message });
        }
        let events = match root {
            Value::Array(events) if self.dialect == Dialect::Native => Some(events),
            Value::Object(envelope) if !matches!(self.dialect, Dialect::SegmentCall(_)) => {
                match envelope.member(self.envelope()) {
                    Some(Value::Array(events)) => Some(events),
                    Some(other) => return Err(self.wrong_envelope(other)),
                    None if self.dialect == Dialect::SegmentBatch => {
                        return Err(self.wrong_envelope(Value::Null));
                    }
                    None => None,
                }
            }
            _ => None,
        };
        let mut batch = Batch::default();
        let envelope = match root {
            Value::Object(envelope) if events.is_some() => Some(envelope),
            _ => None,
        };
        match events {
            Some(events) => {
                if events.len() > self.events_max {
                    return Err(BodyError::TooManyEvents { found: events.len(), max: self.events_max });
                }
                let mut culprits = culprits.iter().peekable();
                for (index, event) in events.elements().enumerate() {
                    match culprits.next_if(|culprit| culprit.index == index) {
                        Some(culprit) => batch.rejected.push(culprit.clone()),
                        None => self.read_into(event, envelope, index, &mut batch),
                    }
                }
            }
            None if !culprits.is_empty() => batch.rejected.extend_from_slice(culprits),
            None => match root {
                Value::Object(_) => self.read_into(root, None, 0, &mut batch),
                other => return Err(self.wrong_root(other)),
            },
        }
        Ok(batch)
    }

    /// Each line is a document of its own, so a bad line costs itself alone.
    fn read_lines(self, body: &[u8]) -> Result<Batch, BodyError> {
        let lines = || body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let found = lines().count();
        if found > self.events_max {
            return Err(BodyError::TooManyEvents { found, max: self.events_max });
        }
        let mut batch = Batch::default();
        for (index, line) in lines().enumerate() {
            json::parse(line, |parsed| match parsed {
                Ok(document) => self.read_into(document.root(), None, index, &mut batch),
                Err((Fault::Unstorable(what), _)) => {
                    batch.rejected.push(Reading { index }.unstorable(None, what))
                }
                Err((Fault::Grammar { at, reason }, _)) => {
                    let message = format!("this line is not JSON, at byte {at}: {reason}");
                    batch.rejected.push(Reading { index }.event(RejectionCode::InvalidJson, message));
                }
            });
        }
        Ok(batch)
    }

    fn read_into<'a>(
        self,
        event: Value<'a>,
        envelope: Option<Container<'a>>,
        index: usize,
        batch: &mut Batch,
    ) {
        match self.read_event(event, envelope, index) {
            Ok(reader) => {
                reader.write(self.origin, &mut batch.rows);
                batch.count += 1;
            }
            Err(rejection) => batch.rejected.push(rejection),
        }
    }

    fn read_event<'a>(
        self,
        event: Value<'a>,
        envelope: Option<Container<'a>>,
        index: usize,
    ) -> Result<EventReader<'a>, Rejection> {
        let Value::Object(event) = event else {
            let message = format!("an event is an object, not {}", event.kind());
            return Err(Reading { index }.event(RejectionCode::InvalidEvent, message));
        };
        match self.dialect {
            Dialect::Native | Dialect::NativeLines => native::read_event(event, self.origin, index),
            Dialect::SegmentBatch => segment::read_call(event, None, envelope, self.origin, index),
            Dialect::SegmentCall(path_type) => {
                segment::read_call(event, Some(path_type), None, self.origin, index)
            }
        }
    }

    fn wrong_envelope(self, found: Value<'_>) -> BodyError {
        let envelope = self.envelope();
        BodyError::InvalidJson { message: format!("{envelope:?} must be an array, not {}", found.kind()) }
    }

    fn wrong_root(self, found: Value<'_>) -> BodyError {
        let expected = match self.dialect {
            Dialect::Native | Dialect::NativeLines => {
                r#"{"events": [...]}, an array of events, or one event"#
            }
            Dialect::SegmentBatch => r#"{"batch": [...]}"#,
            Dialect::SegmentCall(_) => "one call, an object",
        };
        BodyError::InvalidJson { message: format!("expected {expected}; found {}", found.kind()) }
    }
}

/// A body that is one event.
fn whole(body: &[u8]) -> Vec<Range<usize>> {
    std::iter::once(0..body.len()).collect()
}

fn invalid_json(at: usize, reason: &str) -> BodyError {
    BodyError::InvalidJson { message: format!("the body is not JSON, at byte {at}: {reason}") }
}
