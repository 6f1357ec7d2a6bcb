//! Our own format: `{"events":[…]}`, a bare array, one event object, or one object a line.
//!
//! An event is `{"id"?, "name", "timestamp"?, "subject"?, "properties"?, "context"?}` and nothing else: a field we do
//! not know is refused rather than lost. A field that is `null` counts as absent.

use super::reader::{EventReader, Reading};
use crate::event::{ID_BYTES_MAX, Origin, Rejection, RejectionCode, SUBJECT_BYTES_MAX};
use crate::json::{Container, Value};

/// The member of the envelope that holds the events.
pub const ENVELOPE: &str = "events";

/// Reads one event.
///
/// # Errors
/// What is wrong with it.
pub fn read_event<'a>(
    event: Container<'a>,
    origin: Origin,
    index: usize,
) -> Result<EventReader<'a>, Rejection> {
    let reading = Reading { index };
    let mut fields = Fields::default();
    for (name, value) in event.members() {
        let slot = match name {
            "id" => &mut fields.id,
            "name" => &mut fields.name,
            "timestamp" => &mut fields.timestamp,
            "subject" => &mut fields.subject,
            "properties" => &mut fields.properties,
            "context" => &mut fields.context,
            unknown => return Err(reading.unknown_field(unknown)),
        };
        if slot.replace(value).is_some() {
            return Err(reading.field(
                name,
                RejectionCode::DuplicateField,
                format!("{name} stands twice in this event"),
            ));
        }
    }
    let mut reader = EventReader::new(reading.name(fields.name)?);
    let id = reading.text("id", fields.id, ID_BYTES_MAX)?;
    let timestamp = reading.timestamp("timestamp", fields.timestamp)?;
    reader.identify(origin, index, id, timestamp);
    reader.subject = reading.text("subject", fields.subject, SUBJECT_BYTES_MAX)?;
    reader.properties = reading.object("properties", fields.properties)?;
    reader.context = reading.object("context", fields.context)?;
    Ok(reader)
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
