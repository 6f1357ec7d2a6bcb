//! Reads a whole body in any dialect: finds its events, and collects rows and rejections. Also finds its API
//! key.
//!
//! When the parser refuses a body because of one unstorable value (a number or half of a surrogate pair), the
//! body is cut into its events, the events with such values are rejected, and the rest is parsed again.

use std::ops::Range;

use super::builder::EventBuilder;
use super::definition::{Dialect, DocumentForms, Framing, RawEvent};
use super::validator::Validator;
use crate::event::{Batch, Origin, Rejection, RejectionCode};
use crate::json::{self, Container, Document, Fault, Value};
use crate::plan::EVENTS_PER_BATCH_MAX;

/// Why a body yields no batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BodyError {
    /// Not JSON, or not in a form of the dialect.
    InvalidJson {
        /// What is wrong, and where.
        message: String,
    },
    /// The body has the right form but contains no event.
    EmptyBatch,
    TooManyEvents {
        /// Events in the body.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Every event was rejected.
    NoValidEvent { rejected: Vec<Rejection> },
}

/// Reads a decompressed body. Valid events become rows of the batch; invalid ones become its rejections.
///
/// # Errors
/// [`BodyError`] when the body contains no valid event, or more than `events_max` events.
pub fn read(dialect: &Dialect, body: &[u8], origin: Origin, events_max: usize) -> Result<Batch, BodyError> {
    let body = json::without_byte_order_mark(body);
    let batch = match dialect.framing {
        Framing::Lines => BatchReader { dialect, origin, events_max }.read_lines(body)?,
        Framing::Document(forms) => {
            let reader = BatchReader { dialect, origin, events_max };
            DocumentReader { reader, forms }.read_body(body)?
        }
    };
    match (batch.count, batch.rejected.is_empty()) {
        (0, true) => Err(BodyError::EmptyBatch),
        (0, false) => Err(BodyError::NoValidEvent { rejected: batch.rejected }),
        _ => Ok(batch),
    }
}

impl Dialect {
    /// The API key in a body; `None` if the dialect or this body has none, or if the body is not valid JSON.
    /// An event with an unstorable value does not hide the key of the batch.
    pub fn find_key(&self, body: &[u8]) -> Option<String> {
        let (key_in_body, Framing::Document(forms)) = (self.key_in_body?, self.framing) else { return None };
        let body = json::without_byte_order_mark(body);
        let key_in = |document: Document<'_>| match document.root() {
            Value::Object(root) => key_in_body(root),
            _ => None,
        };
        let first = json::parse(body, |parsed| match parsed {
            Ok(document) => Ok(key_in(document)),
            Err((Fault::Grammar { .. }, _)) => Ok(None),
            Err((Fault::Unstorable(_), offsets)) => Err(event_ranges(body, offsets, forms)),
        });
        match first {
            Ok(key) => key,
            // No plan allows so many events, and the caller is not authenticated yet.
            Err(events) if events.len() > EVENTS_PER_BATCH_MAX as usize => None,
            Err(events) => {
                let (storable, _) = replace_unstorable(body, &events);
                json::parse(&storable, |parsed| key_in(parsed.ok()?))
            }
        }
    }
}

#[derive(Clone, Copy)]
struct BatchReader<'d> {
    dialect: &'d Dialect,
    origin: Origin,
    events_max: usize,
}

impl BatchReader<'_> {
    /// Each line is parsed on its own, so an invalid line does not affect the others.
    fn read_lines(self, body: &[u8]) -> Result<Batch, BodyError> {
        let lines = || body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        self.check_count(lines().count())?;
        let mut batch = Batch::default();
        for (index, line) in lines().enumerate() {
            json::parse(line, |parsed| match parsed {
                Ok(document) => self.read_into(document.root(), None, index, &mut batch),
                Err((Fault::Unstorable(what), _)) => {
                    batch.rejected.push(Validator { index }.unstorable(None, what))
                }
                Err((Fault::Grammar { at, reason }, _)) => {
                    let message = format!("the line is not valid JSON at byte {at}: {reason}");
                    batch.rejected.push(Validator { index }.reject(RejectionCode::InvalidJson, message));
                }
            });
        }
        Ok(batch)
    }

    fn check_count(self, found: usize) -> Result<(), BodyError> {
        let max = self.events_max;
        if found > max { Err(BodyError::TooManyEvents { found, max }) } else { Ok(()) }
    }

    fn read_into<'a>(
        self,
        event: Value<'a>,
        envelope: Option<Container<'a>>,
        index: usize,
        batch: &mut Batch,
    ) {
        match self.read_event(event, envelope, index) {
            Ok(event) => {
                event.write(self.origin.project, &mut batch.rows);
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
    ) -> Result<EventBuilder<'a>, Rejection> {
        let Value::Object(object) = event else {
            let message = format!("an event must be an object, not {}", event.kind());
            return Err(Validator { index }.reject(RejectionCode::InvalidEvent, message));
        };
        (self.dialect.read_event)(&RawEvent { object, envelope, index, origin: self.origin })
    }
}

#[derive(Clone, Copy)]
struct DocumentReader<'d> {
    reader: BatchReader<'d>,
    forms: DocumentForms,
}

impl DocumentReader<'_> {
    fn read_body(self, body: &[u8]) -> Result<Batch, BodyError> {
        let first = json::parse(body, |parsed| match parsed {
            Ok(document) => Ok(self.read_document(document, &[])),
            Err((Fault::Grammar { at, reason }, _)) => Ok(Err(invalid_json(at, reason))),
            Err((Fault::Unstorable(_), offsets)) => Err(event_ranges(body, offsets, self.forms)),
        });
        match first {
            Ok(result) => result,
            Err(events) => self.read_without_unstorable(body, &events),
        }
    }

    /// Reads a body that contains unstorable values: rejects the events with such values, and reads the
    /// others.
    fn read_without_unstorable(self, body: &[u8], events: &[Range<usize>]) -> Result<Batch, BodyError> {
        self.reader.check_count(events.len())?;
        json::check_grammar(body).map_err(|error| BodyError::InvalidJson {
            message: format!("the body is not valid JSON: {error}"),
        })?;
        let (storable, unstorable) = replace_unstorable(body, events);
        json::parse(&storable, |parsed| match parsed {
            Ok(document) => self.read_document(document, &unstorable),
            Err((Fault::Grammar { at, reason }, _)) => Err(invalid_json(at, reason)),
            Err((Fault::Unstorable(_), _)) => Err(BodyError::InvalidJson {
                message: "the body has a value outside its events that cannot be stored".to_owned(),
            }),
        })
    }

    /// Reads the events of a document. `unstorable` are rejections of earlier steps, ordered by index; the
    /// document has placeholders at these indexes.
    fn read_document(self, document: Document<'_>, unstorable: &[Rejection]) -> Result<Batch, BodyError> {
        let root = document.root();
        let mut batch = Batch::default();
        let Some(events) = self.array_of_events(root)? else {
            match root {
                _ if !unstorable.is_empty() => batch.rejected.extend_from_slice(unstorable),
                Value::Object(_) => self.reader.read_into(root, None, 0, &mut batch),
                other => return Err(self.wrong_form(other)),
            }
            return Ok(batch);
        };
        self.reader.check_count(events.len())?;
        let envelope = match root {
            Value::Object(envelope) => Some(envelope),
            _ => None,
        };
        let mut unstorable = unstorable.iter().peekable();
        for (index, event) in events.elements().enumerate() {
            match unstorable.next_if(|rejection| rejection.index == index) {
                Some(rejection) => batch.rejected.push(rejection.clone()),
                None => self.reader.read_into(event, envelope, index, &mut batch),
            }
        }
        Ok(batch)
    }

    /// The array that holds the events; `None` if the document is a single event or has a wrong form.
    fn array_of_events<'a>(self, root: Value<'a>) -> Result<Option<Container<'a>>, BodyError> {
        match (root, self.forms.envelope) {
            (Value::Array(events), _) if self.forms.array => Ok(Some(events)),
            (Value::Object(object), Some(envelope)) => {
                let mut found = object.members().filter(|(name, _)| *name == envelope);
                let first = found.next();
                if found.next().is_some() {
                    let message = format!("{envelope:?} appears more than once; send it once");
                    return Err(BodyError::InvalidJson { message });
                }
                match first {
                    Some((_, Value::Array(events))) => Ok(Some(events)),
                    None if self.forms.single => Ok(None),
                    None => Err(not_an_array(envelope, Value::Null)),
                    Some((_, other)) => Err(not_an_array(envelope, other)),
                }
            }
            _ => Ok(None),
        }
    }

    fn wrong_form(self, found: Value<'_>) -> BodyError {
        let expected = self.reader.dialect.expected;
        BodyError::InvalidJson { message: format!("expected {expected}; found {}", found.kind()) }
    }
}

fn not_an_array(envelope: &str, found: Value<'_>) -> BodyError {
    BodyError::InvalidJson { message: format!("{envelope:?} must be an array, not {}", found.kind()) }
}

/// The byte ranges of the events in a document that the parser has refused.
fn event_ranges(body: &[u8], offsets: &[u32], forms: DocumentForms) -> Vec<Range<usize>> {
    json::element_ranges(body, offsets, forms.envelope)
        .unwrap_or_else(|| std::iter::once(0..body.len()).collect())
}

/// Parses every event on its own. Returns the body with a placeholder for each event that has an unstorable
/// value, and the rejections of these events, ordered by index.
fn replace_unstorable(body: &[u8], events: &[Range<usize>]) -> (Vec<u8>, Vec<Rejection>) {
    let mut storable = body.to_vec();
    let mut rejections = Vec::new();
    for (index, range) in events.iter().enumerate() {
        // Wrapped as deep as an envelope wraps it: the parser's limit on depth counts from the body's root.
        let wrapped = [b"[[", &body[range.clone()], b"]]"].concat();
        let fault = json::parse(&wrapped, |parsed| parsed.err().map(|(fault, _)| fault));
        if let Some(Fault::Unstorable(what)) = fault {
            storable[range.clone()].fill(b' ');
            storable[range.start] = b'0';
            rejections.push(Validator { index }.unstorable(None, what));
        }
    }
    (storable, rejections)
}

fn invalid_json(at: usize, reason: &str) -> BodyError {
    BodyError::InvalidJson { message: format!("the body is not valid JSON at byte {at}: {reason}") }
}
