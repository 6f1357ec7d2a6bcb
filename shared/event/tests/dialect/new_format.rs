//! A wire format that this crate does not have, to show that a new one needs nothing but its own file.

use millrace_event::dialect::{
    Dialect, DocumentForms, EventBuilder, Framing, InvalidEvents, KeyPlaces, RawEvent, Validator, read,
};
use millrace_event::event::{ID_BYTES_MAX, Rejection};

use crate::bodies::*;

/// A subset of CloudEvents: one event, or an array of events without an envelope.
static CLOUD_EVENTS: Dialect = Dialect {
    name: "test-cloudevents",
    framing: Framing::Document(DocumentForms { envelope: None, array: true, single: true }),
    expected: "an event or an array of events",
    read_event,
    invalid: InvalidEvents::Rejected,
    keys: KeyPlaces::NONE,
};

fn read_event<'a>(event: &RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection> {
    let validator = Validator { index: event.index };
    let mut builder = EventBuilder::new(validator.name("type", event.object.member("type"))?);
    let id = validator.text("id", event.object.member("id"), ID_BYTES_MAX)?;
    let time = validator.timestamp("time", event.object.member("time"))?;
    builder.identify(event.origin, event.index, id, time);
    builder.properties = validator.object("data", event.object.member("data"))?;
    Ok(builder)
}

#[test]
fn a_new_wire_format_needs_only_its_own_file() {
    let event = r#"{"type":"com.example.paid","id":"A234","time":"2026-11-21T02:51:47Z","data":{"n":1}}"#;
    let single = read(&CLOUD_EVENTS, event.as_bytes(), origin(), EVENTS_MAX).unwrap();
    let row = texts(&only_row(&single));
    let expected = [Some("com.example.paid"), None, Some("A234"), Some(r#"{"n":1}"#), None];
    assert_eq!(row, expected.map(|text| text.map(str::to_owned)));

    let body = format!(r#"[{event},{{"id":"A235"}},{{"type":"\ud800"}}]"#);
    let batch = read(&CLOUD_EVENTS, body.as_bytes(), origin(), EVENTS_MAX).unwrap();
    assert_eq!((batch.rows.clone(), batch.count), (single.rows, 1));
    assert_eq!(codes(&batch), [(1, "missing_field"), (2, "invalid_string")]);
    assert_eq!(batch.rejected[0].message, "type is required");
}
