//! Millrace's own format: `{"events":[…]}`, an array, a single event object, or one object per line.
//!
//! An event is `{"id"?, "name", "timestamp"?, "subject"?, "properties"?, "context"?}`. An unknown field is
//! rejected, because its data would be lost. A field with the value `null` counts as absent.

use super::builder::EventBuilder;
use super::definition::{Dialect, DocumentForms, Framing, InvalidEvents, RawEvent};
use super::validator::Validator;
use crate::event::{ID_BYTES_MAX, Rejection, RejectionCode, SUBJECT_BYTES_MAX};
use crate::json::Value;

const EXPECTED: &str = r#"{"events": [...]}, an array of events, or one event"#;

/// One JSON document.
pub static JSON: Dialect = Dialect {
    name: "native",
    framing: Framing::Document(DocumentForms { envelope: Some("events"), array: true, single: true }),
    expected: EXPECTED,
    read_event,
    invalid: InvalidEvents::Rejected,
    key_member: None,
};

/// One event object per line.
pub static NDJSON: Dialect = Dialect {
    name: "lines",
    framing: Framing::Lines,
    expected: "one event per line",
    read_event,
    invalid: InvalidEvents::Rejected,
    key_member: None,
};

fn read_event<'a>(event: &RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection> {
    let validator = Validator { index: event.index };
    let mut fields = Fields::default();
    for (name, value) in event.object.members() {
        let slot = match name {
            "id" => &mut fields.id,
            "name" => &mut fields.name,
            "timestamp" => &mut fields.timestamp,
            "subject" => &mut fields.subject,
            "properties" => &mut fields.properties,
            "context" => &mut fields.context,
            unknown => return Err(validator.unknown_field(unknown)),
        };
        if slot.replace(value).is_some() {
            let message = format!("{name} appears more than once in this event");
            return Err(validator.reject_field(name, RejectionCode::DuplicateField, message));
        }
    }
    let mut builder = EventBuilder::new(validator.name("name", fields.name)?);
    let id = validator.text("id", fields.id, ID_BYTES_MAX)?;
    let timestamp = validator.timestamp("timestamp", fields.timestamp)?;
    builder.identify(event.origin, event.index, id, timestamp);
    builder.subject = validator.text("subject", fields.subject, SUBJECT_BYTES_MAX)?;
    builder.properties = validator.object("properties", fields.properties)?;
    builder.context = validator.object("context", fields.context)?;
    Ok(builder)
}

#[derive(Default)]
struct Fields<'a> {
    id: Option<Value<'a>>,
    name: Option<Value<'a>>,
    timestamp: Option<Value<'a>>,
    subject: Option<Value<'a>>,
    properties: Option<Value<'a>>,
    context: Option<Value<'a>>,
}
