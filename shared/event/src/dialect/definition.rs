//! The definition of a wire format: the layout of events in a body, and the function that reads one event.

use std::fmt;

use super::builder::EventBuilder;
use super::sink::{BodyError, EventSink};
use super::validator::Validator;
use crate::event::{Origin, Rejection, RejectionCode};
use crate::json::{Container, Value};

/// A wire format. Each one is a static in the file of its format.
pub struct Dialect {
    /// Part of the digest by which a repeated request with an `Idempotency-Key` is recognized, so it must be
    /// unique and must never change.
    pub name: &'static str,
    pub framing: Framing,
    /// The forms of a body, for the error about any other.
    pub expected: &'static str,
    /// Reads one event. Every value must pass the [`super::Validator`].
    pub read_event: for<'a> fn(&RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection>,
    pub invalid: InvalidEvents,
    /// For clients that send no `Authorization` header.
    pub keys: KeyPlaces,
}

/// Where a body may hold the API key. The first place that has one counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyPlaces {
    /// Members of the root object.
    pub root: &'static [&'static str],
    /// Paths of members in the first event.
    pub first_event: &'static [&'static [&'static str]],
}

impl KeyPlaces {
    /// The key is never in the body.
    pub const NONE: Self = Self { root: &[], first_event: &[] };
}

/// What becomes of an event that a dialect cannot read, and of a fault in a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidEvents {
    /// The event is rejected by its index, and nothing is repaired: the client corrects it and sends it
    /// again.
    Rejected,
    /// What has one clear meaning is repaired, and the event is otherwise accepted as a dead letter. For
    /// SDKs, which read no index, and drop a whole batch after a 4xx.
    DeadLettered,
}

/// How the events of a body are separated from each other.
#[derive(Clone, Copy, Debug)]
pub enum Framing {
    /// One JSON object per line. An invalid line is rejected like an invalid event.
    Lines,
    /// One JSON document.
    Document(DocumentForms),
    /// The same. Members of events with these names may be objects, or base64 of their JSON: the dialect must
    /// take both for the same.
    Base64Members(DocumentForms, &'static [&'static str]),
    /// A form of the dialect's own, which this function reads. [`Dialect::read_event`] is then never called.
    Own(fn(&[u8], &mut EventSink) -> Result<(), BodyError>),
}

impl Framing {
    /// The forms of the document, if it is one.
    pub(super) fn forms(self) -> Option<DocumentForms> {
        match self {
            Self::Lines | Self::Own(_) => None,
            Self::Document(forms) | Self::Base64Members(forms, _) => Some(forms),
        }
    }
}

/// The `read_event` of a dialect that reads whole bodies.
pub(super) fn unread<'a>(event: &RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection> {
    let message = "an event of this format is read with the body around it".to_owned();
    Err(Validator { index: event.index }.reject(RejectionCode::InvalidEvent, message))
}

/// The forms of a JSON document that a dialect accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DocumentForms {
    /// The member of the root object that holds an array of events: `events` in `{"events":[…]}`.
    pub envelope: Option<&'static str>,
    /// Whether the document may be an array of events.
    pub array: bool,
    /// Whether the document may be a single event.
    pub single: bool,
}

/// A member of an object: its name, unescaped, and its value.
pub type Member<'a> = (&'a str, Value<'a>);

/// One event as the client sent it, not validated.
pub struct RawEvent<'a> {
    pub object: Container<'a>,
    /// The members of the root object next to the array of events. They are found once for all events.
    pub shared: &'a [Member<'a>],
    /// The event's index in the request, from 0.
    pub index: usize,
    pub origin: Origin,
}

impl PartialEq for Dialect {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Dialect {}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialect({})", self.name)
    }
}
