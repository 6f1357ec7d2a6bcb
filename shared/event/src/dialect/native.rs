//! Millrace's own format: `{"events":[…]}`, an array, a single event object, or one object per line.
//!
//! An event is `{"id"?, "name", "timestamp"?, "subject"?, "properties"?, "context"?}`. An unknown field is
//! rejected, because its data would be lost. A field with the value `null` counts as absent.

use std::borrow::Cow;

use super::bounds::Bounds;
use super::builder::EventBuilder;
use super::definition::{Dialect, DocumentForms, Framing, InvalidEvents, KeyPlaces, RawEvent};
use super::validator::Validator;
use crate::event::{ID_BYTES_MAX, Rejection, RejectionCode, SUBJECT_BYTES_MAX};
use crate::json::Value;

/// The member of the context for what was sent and is not in a column.
const SENT: &str = "$sent";

const EXPECTED: &str = r#"{"events": [...]}, an array of events, or one event"#;

/// One JSON document.
pub static JSON: Dialect = Dialect {
    name: "native",
    framing: Framing::Document(DocumentForms { envelope: Some("events"), array: true, single: true }),
    expected: EXPECTED,
    read_event,
    invalid: InvalidEvents::Rejected,
    keys: KeyPlaces::NONE,
};

/// One event object per line.
pub static NDJSON: Dialect = Dialect {
    name: "lines",
    framing: Framing::Lines,
    expected: "one event per line",
    read_event,
    invalid: InvalidEvents::Rejected,
    keys: KeyPlaces::NONE,
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
    let bounds = builder.keep_in_bounds(event.origin, event.index);
    builder.subject = validator.text("subject", fields.subject, SUBJECT_BYTES_MAX)?;
    builder.properties = validator.object("properties", fields.properties)?;
    builder.context = validator.object("context", fields.context)?;
    match bounds {
        Bounds::Inside => {}
        Bounds::TakesReceiveTime => builder.context = keep_timestamp(builder.context, &fields),
        Bounds::Refused { message } => {
            let field = if fields.timestamp.is_some() { "timestamp" } else { "id" };
            return Err(validator.reject_field(field, RejectionCode::InvalidTimestamp, message));
        }
    }
    Ok(builder)
}

/// The context with the timestamp that the event does not have, under a member that the client's context does
/// not have.
#[cold]
fn keep_timestamp<'a>(context: Option<Cow<'a, [u8]>>, fields: &Fields<'a>) -> Option<Cow<'a, [u8]>> {
    let Some(Value::String(_, timestamp)) = fields.timestamp else { return context };
    let has_member = |name: &str| match fields.context {
        Some(Value::Object(context)) => context.member(name).is_some(),
        _ => false,
    };
    let mut name = SENT.to_owned();
    while has_member(&name) {
        name.insert(0, '$');
    }
    let own = context.as_deref().map_or(&b""[..], |context| context[1..context.len() - 1].trim_ascii());
    let mut kept = format!(r#"{{"{name}":{{"timestamp":"#).into_bytes();
    kept.extend_from_slice(timestamp);
    kept.push(b'}');
    if !own.is_empty() {
        kept.push(b',');
        kept.extend_from_slice(own);
    }
    kept.push(b'}');
    Some(Cow::Owned(kept))
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
