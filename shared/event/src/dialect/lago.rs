//! Lago's usage events: `{"event":{…}}`, or `{"events":[…]}`.
//!
//! | column | source |
//! |---|---|
//! | id | `transaction_id`, which alone identifies the event |
//! | name | `code`, the code of the metric |
//! | timestamp | `timestamp`, seconds since 1970 as a number or a text |
//! | subject | `external_subscription_id`, or else `external_customer_id` |
//! | properties | `properties` |
//! | context.lago | everything else |
//!
//! Sources: Lago's API reference; the SDKs `lago-python-client` and `lago-javascript-client`.

use super::builder::EventBuilder;
use super::call::{Call, is_empty};
use super::definition::{Dialect, DocumentForms, Framing, InvalidEvents, KeyPlaces, RawEvent};
use crate::event::{Rejection, RejectionCode};
use crate::json::{Container, Value};

use super::validator::Validator;

const FAMILY: &str = "lago";

/// `{"event":{…}}`
pub static EVENT: Dialect = Dialect {
    name: "lago-event",
    framing: Framing::Document(DocumentForms { envelope: None, array: false, single: true }),
    expected: r#"{"event": {...}}"#,
    read_event: read_wrapped,
    invalid: InvalidEvents::DeadLettered,
    keys: KeyPlaces::NONE,
};

/// `{"events":[…]}`
pub static EVENTS: Dialect = Dialect {
    name: "lago-events",
    framing: Framing::Document(DocumentForms { envelope: Some("events"), array: false, single: false }),
    expected: r#"{"events": [...]}"#,
    read_event: |event| read_event(event, event.object),
    invalid: InvalidEvents::DeadLettered,
    keys: KeyPlaces::NONE,
};

fn read_wrapped<'a>(event: &RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection> {
    match event.object.member("event") {
        Some(Value::Object(inner)) => read_event(event, inner),
        _ => {
            let validator = Validator { index: event.index };
            let message = "event must be an object".to_owned();
            Err(validator.reject_field("event", RejectionCode::InvalidType, message))
        }
    }
}

fn read_event<'a>(event: &RawEvent<'a>, object: Container<'a>) -> Result<EventBuilder<'a>, Rejection> {
    let (mut id, mut code, mut time, mut subscription, mut customer, mut properties) =
        (None, None, None, None, None, None);
    for (name, value) in object.members() {
        match name {
            "transaction_id" => id = Some(value),
            "code" => code = Some(value),
            "timestamp" => time = Some(value),
            "external_subscription_id" => subscription = Some(value),
            "external_customer_id" => customer = Some(value),
            "properties" => properties = Some(value),
            _ => {}
        }
    }
    let mut call = Call::named(FAMILY, event, ("code", code))?;
    call.identify(("transaction_id", id), ("timestamp", time))?;
    call.identify_by_id_alone();
    call.subject(&[("external_subscription_id", subscription), ("external_customer_id", customer)])?;
    call.properties(("properties", properties), |_, _| false)?;
    for (name, value) in object.members() {
        let has_place = match name {
            "transaction_id"
            | "code"
            | "timestamp"
            | "external_subscription_id"
            | "external_customer_id"
            | "properties" => true,
            _ => is_empty(value),
        };
        if !has_place {
            call.keep(name, value)?;
        }
    }
    Ok(call.finish())
}
