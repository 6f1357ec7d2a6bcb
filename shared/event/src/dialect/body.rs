//! Reads a whole body in any dialect: finds its events, and collects rows and rejections. Also finds its API
//! key.
//!
//! When the parser refuses a body, it is taken apart: every event is read alone, and a broken one costs
//! nothing but itself. A body that the parser accepts never takes that path.

use std::ops::Range;

use super::base64_members;
use super::builder::EventBuilder;
use super::definition::{Dialect, DocumentForms, Framing, InvalidEvents, Member, RawEvent};
use super::event_texts::lines;
use super::sink::{BodyError, EventSink, add_dead_letter};
use super::tolerant::{self, fault_outside, readable};
use super::validator::Validator;
use crate::entry::ROWS_BYTES_MAX;
use crate::event::{Batch, Origin, Rejection, RejectionCode};
use crate::json::{self, Container, Document, Fault, Outline, Value};

/// Reads a decompressed body. Valid events become rows of the batch; invalid ones become its rejections or
/// its dead calls, as the dialect says.
///
/// # Errors
/// [`BodyError`] when the body yields no row, or has more than `events_max` events.
pub fn read(dialect: &Dialect, body: &[u8], origin: Origin, events_max: usize) -> Result<Batch, BodyError> {
    let body = json::without_byte_order_mark(body);
    let reader = BatchReader { dialect, origin, events_max };
    let batch = match dialect.framing {
        Framing::Lines => reader.read_lines(body)?,
        Framing::Document(forms) => DocumentReader { reader, forms }.read_body(body)?,
        Framing::Base64Members(forms, names) => {
            let reader = DocumentReader { reader, forms };
            reader.read_decoded(body, names).unwrap_or_else(|| reader.read_body(body))?
        }
        Framing::Own(read_body) => {
            let mut sink = EventSink::new(origin, events_max);
            read_body(body, &mut sink)?;
            sink.finish()?
        }
    };
    match (batch.count, batch.rejected.is_empty()) {
        (0, true) => Err(BodyError::EmptyBatch),
        (0, false) => Err(BodyError::NoValidEvent { rejected: batch.rejected }),
        _ => Ok(batch),
    }
}

impl Dialect {
    /// The API key in a body; `None` if the dialect or this body has none. Neither a broken event nor a body
    /// that ends too early hides the key.
    pub fn find_key(&self, body: &[u8]) -> Option<String> {
        let envelope = self.framing.forms().and_then(|forms| forms.envelope);
        let body = json::without_byte_order_mark(body);
        let in_root = |name: &&str| json::unescaped(json::root_member(body, name, envelope)?);
        self.keys.root.iter().find_map(in_root).or_else(|| {
            let paths = Some(self.keys.first_event).filter(|paths| !paths.is_empty())?;
            let event = self.texts_of(body, &[0]).pop().flatten()?;
            let at = |path: &&[&str]| {
                path.iter().try_fold(event, |object, name| json::root_member(object, name, None))
            };
            paths.iter().filter_map(at).find_map(json::unescaped)
        })
    }
}

/// The body as sent, and the events in it, for a document that was put together again.
#[derive(Clone, Copy)]
struct AsSent<'b> {
    body: &'b [u8],
    ranges: &'b [Range<usize>],
    /// Ordered by index. The document has placeholders at these indexes.
    unreadable: &'b [Rejection],
}

/// The array of events, and the members of the root object next to it.
type EventsAndShared<'a> = (Container<'a>, Vec<Member<'a>>);

#[derive(Clone, Copy)]
struct BatchReader<'d> {
    dialect: &'d Dialect,
    origin: Origin,
    events_max: usize,
}

impl BatchReader<'_> {
    /// Each line is parsed on its own, so an invalid line does not affect the others.
    fn read_lines(self, body: &[u8]) -> Result<Batch, BodyError> {
        self.check_count(lines(body).count())?;
        let mut batch = Batch::default();
        for (index, line) in lines(body).enumerate() {
            self.read_alone(line, "line", index, &mut batch);
        }
        Ok(batch)
    }

    /// Reads an event that is a document of its own.
    fn read_alone(self, raw: &[u8], what: &str, index: usize, batch: &mut Batch) {
        let read = |text: &[u8], batch: &mut Batch| {
            json::parse(text, |parsed| {
                parsed.map(|document| self.read_into(document.root(), &[], index, Some(raw), batch))
            })
        };
        let Err(mut fault) = read(raw, batch) else { return };
        if self.dialect.invalid == InvalidEvents::DeadLettered {
            match read(&json::repaired(raw), batch) {
                Ok(()) => return,
                Err(remaining) => fault = remaining,
            }
        }
        self.refuse(tolerant::rejection(Validator { index }, what, &fault), raw, batch);
    }

    fn check_count(self, found: usize) -> Result<(), BodyError> {
        let max = self.events_max;
        if found > max { Err(BodyError::TooManyEvents { found, max }) } else { Ok(()) }
    }

    /// Reads an event. `sent` is the event as it was sent, if it was changed since.
    fn read_into<'a>(
        self,
        event: Value<'a>,
        shared: &'a [Member<'a>],
        index: usize,
        sent: Option<&[u8]>,
        batch: &mut Batch,
    ) {
        match self.read_event(event, shared, index) {
            Ok(mut event) => {
                event.place_address(self.origin);
                event.write(self.origin.project, &mut batch.rows);
                batch.count += 1;
            }
            Err(rejection) => self.refuse(rejection, sent.unwrap_or_else(|| event.as_written()), batch),
        }
    }

    fn read_event<'a>(
        self,
        event: Value<'a>,
        shared: &'a [Member<'a>],
        index: usize,
    ) -> Result<EventBuilder<'a>, Rejection> {
        let Value::Object(object) = event else {
            let message = format!("an event must be an object, not {}", event.kind());
            return Err(Validator { index }.reject(RejectionCode::InvalidEvent, message));
        };
        (self.dialect.read_event)(&RawEvent { object, shared, index, origin: self.origin })
    }

    /// Rejects an invalid event, or accepts it as a dead letter, without the keys in its text.
    fn refuse(self, rejection: Rejection, sent: &[u8], batch: &mut Batch) {
        if self.dialect.invalid == InvalidEvents::Rejected {
            batch.rejected.push(rejection);
            return;
        }
        add_dead_letter(rejection, sent, self.origin, batch);
    }
}

#[derive(Clone, Copy)]
struct DocumentReader<'d> {
    reader: BatchReader<'d>,
    forms: DocumentForms,
}

impl DocumentReader<'_> {
    fn read_body(self, body: &[u8]) -> Result<Batch, BodyError> {
        let first = json::parse(body, |parsed| parsed.map(|document| self.read_document(document, None)));
        first.unwrap_or_else(|fault| self.read_refused(body, &fault))
    }

    /// Reads a body with these members decoded. `None` if none is, or if an event cannot be read: the body as
    /// it was sent then tells what is wrong.
    fn read_decoded(self, body: &[u8], names: &[&str]) -> Option<Result<Batch, BodyError>> {
        let decoded = base64_members::decoded(body, names)?;
        json::parse(&decoded.text, |parsed| {
            let document = parsed.ok().filter(|document| decoded.is_read_as_meant(document))?;
            Some(self.read_document(document, None))
        })
        .filter(|read| read.as_ref().is_ok_and(|batch| batch.dead.is_empty() && batch.rejected.is_empty()))
    }

    /// Reads a body that the parser has refused because of this fault, which is its first.
    fn read_refused(self, body: &[u8], fault: &Fault) -> Result<Batch, BodyError> {
        let outline = json::outline(body, self.forms.envelope, self.reader.events_max);
        match outline.ok_or_else(|| invalid_json(body, fault))? {
            Outline { events: Some(events), envelopes: 0..=1, is_object }
                if is_object || self.forms.array =>
            {
                self.reader.check_count(events.count)?;
                let readable = readable(body, events, self.reader.dialect.invalid);
                let sent = AsSent { body, ranges: &readable.ranges, unreadable: &readable.unreadable };
                let read = json::parse(&readable.text, |parsed| {
                    parsed.map(|document| self.read_document(document, Some(sent)))
                });
                read.unwrap_or_else(|fault| {
                    Err(invalid_json(body, &fault_outside(body, sent.ranges).unwrap_or(fault)))
                })
            }
            Outline { envelopes: 0, is_object: true, .. } if self.forms.single => {
                self.read_refused_event(body, fault)
            }
            Outline { envelopes: 2.., .. } => Err(more_than_one(self.forms.envelope.unwrap_or_default())),
            _ => Err(invalid_json(body, fault)),
        }
    }

    /// Reads a body that is one event, an object whose brackets close.
    fn read_refused_event(self, body: &[u8], fault: &Fault) -> Result<Batch, BodyError> {
        let mut batch = Batch::default();
        match (self.reader.dialect.invalid, fault) {
            // Without its only event, nothing of the body is JSON.
            (InvalidEvents::Rejected, Fault::Grammar { .. }) => return Err(invalid_json(body, fault)),
            (InvalidEvents::Rejected, Fault::Unstorable(_)) if json::check_grammar(body).is_err() => {
                return Err(invalid_json(body, fault));
            }
            _ => self.reader.read_alone(body, "call", 0, &mut batch),
        }
        Ok(batch)
    }

    /// Reads the events of a document. `sent` is the body that it was made from, if the parser has refused
    /// that.
    fn read_document(self, document: &Document<'_>, sent: Option<AsSent<'_>>) -> Result<Batch, BodyError> {
        let root = document.root();
        let mut batch = Batch::default();
        let Some((events, shared)) = self.array_of_events(root)? else {
            match root {
                Value::Object(_) => self.reader.read_into(root, &[], 0, None, &mut batch),
                other => return Err(self.wrong_form(other)),
            }
            return Ok(batch);
        };
        self.reader.check_count(events.len())?;
        let mut unreadable = sent.map_or(&[][..], |sent| sent.unreadable).iter().peekable();
        for (index, event) in events.elements().enumerate() {
            let as_sent = sent.and_then(|sent| Some(&sent.body[sent.ranges.get(index)?.clone()]));
            match unreadable.next_if(|rejection| rejection.index == index) {
                Some(rejection) => {
                    self.reader.refuse(rejection.clone(), as_sent.unwrap_or_default(), &mut batch)
                }
                None => self.reader.read_into(event, &shared, index, as_sent, &mut batch),
            }
            if batch.rows.len() > ROWS_BYTES_MAX {
                return Err(BodyError::RowsTooLarge { max: ROWS_BYTES_MAX });
            }
        }
        Ok(batch)
    }

    /// The array that holds the events, and the members next to it; `None` if the document is a single event
    /// or has a wrong form.
    fn array_of_events<'a>(self, root: Value<'a>) -> Result<Option<EventsAndShared<'a>>, BodyError> {
        match (root, self.forms.envelope) {
            (Value::Array(events), _) if self.forms.array => Ok(Some((events, Vec::new()))),
            (Value::Object(object), Some(envelope)) => {
                let (mut found, mut shared) = (None, Vec::new());
                for (name, value) in object.members() {
                    if name != envelope {
                        shared.push((name, value));
                    } else if found.replace(value).is_some() {
                        return Err(more_than_one(envelope));
                    }
                }
                match found {
                    Some(Value::Array(events)) => Ok(Some((events, shared))),
                    None if self.forms.single => Ok(None),
                    None => Err(not_an_array(envelope, Value::Null)),
                    Some(other) => Err(not_an_array(envelope, other)),
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

fn more_than_one(envelope: &str) -> BodyError {
    BodyError::InvalidJson { message: format!("{envelope:?} appears more than once; send it once") }
}

fn not_an_array(envelope: &str, found: Value<'_>) -> BodyError {
    BodyError::InvalidJson { message: format!("{envelope:?} must be an array, not {}", found.kind()) }
}

/// The error about a fault that no single event is the cause of.
fn invalid_json(body: &[u8], fault: &Fault) -> BodyError {
    let message = match fault {
        Fault::Grammar { at, reason } => format!("the body is not valid JSON at byte {at}: {reason}"),
        Fault::Unstorable(_) => match json::check_grammar(body) {
            Err(error) => format!("the body is not valid JSON: {error}"),
            Ok(()) => "the body has a value outside its events that cannot be stored".to_owned(),
        },
    };
    BodyError::InvalidJson { message }
}
