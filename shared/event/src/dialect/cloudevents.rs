//! CloudEvents 1.0 in JSON, as OpenMeter takes them: one event, or an array of events.
//!
//! - id: `source` and `id` together, as the specification defines the identity of an event; they alone
//!   identify it. The column `client_id` has the `id`.
//! - name: `type`
//! - timestamp: `time`
//! - subject: `subject`
//! - properties: `data`, if it is an object
//! - context.cloudevents: `source`, `datacontenttype`, `dataschema`, `data_base64`, `data` that is no object,
//!   and every extension attribute
//!
//! `specversion` is not stored if it is `1.0`.
//!
//! Sources: the CloudEvents specification 1.0.2 with its JSON format; the SDKs `openmeter`, `@openmeter/sdk`
//! and `cloudevents`.

use super::builder::EventBuilder;
use super::call::{Call, is_empty};
use super::definition::{Dialect, DocumentForms, Framing, InvalidEvents, KeyPlaces, RawEvent};
use crate::event::{Rejection, derived_uuid};
use crate::json::Value;

const FAMILY: &str = "cloudevents";

pub static EVENTS: Dialect = Dialect {
    name: "cloudevents",
    framing: Framing::Document(DocumentForms { envelope: None, array: true, single: true }),
    expected: "one event, an object, or an array of events",
    read_event,
    invalid: InvalidEvents::DeadLettered,
    keys: KeyPlaces::NONE,
};

fn read_event<'a>(event: &RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection> {
    let (mut id, mut source, mut time, mut subject, mut data, mut kind) =
        (None, None, None, None, None, None);
    for (name, value) in event.object.members() {
        match name {
            "id" => id = Some(value),
            "source" => source = Some(value),
            "time" => time = Some(value),
            "subject" => subject = Some(value),
            "data" => data = Some(value),
            "type" => kind = Some(value),
            _ => {}
        }
    }
    let mut call = Call::named(FAMILY, event, ("type", kind))?;
    call.identify(("id", id), ("time", time))?;
    if let Some(Value::String(id_text, _)) = id
        && !id_text.is_empty()
    {
        let source = match source {
            Some(Value::String(source, _)) => source,
            _ => "",
        };
        call.identify_by(derived_uuid(&[b"cloud event", source.as_bytes(), id_text.as_bytes()]), id);
    }
    call.identify_by_id_alone();
    call.subject(&[("subject", subject)])?;
    match data {
        Some(Value::Object(_)) => call.properties(("data", data), |_, _| false)?,
        Some(other) if !matches!(other, Value::Null) => call.keep("data", other)?,
        _ => {}
    }
    for (name, value) in event.object.members() {
        let has_place = match name {
            "id" | "time" | "subject" | "data" | "type" => true,
            "specversion" => matches!(value, Value::String("1.0", _)),
            _ => is_empty(value),
        };
        if !has_place {
            call.keep(name, value)?;
        }
    }
    Ok(call.finish())
}
