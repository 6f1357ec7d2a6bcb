//! Amplitude's HTTP API: `{"api_key":…, "events":[…]}`, and identifications.
//!
//! - id: `insert_id`
//! - name: `event_type`; `$identify` for `$identify`, `$group` for `$groupidentify`, `$page` for `[Amplitude]
//!   Page Viewed`
//! - timestamp: `time`, milliseconds since 1970
//! - subject: `user_id`, or else `device_id`
//! - properties: `event_properties`; of `$identify` the members of `$set` in `user_properties`, of `$group`
//!   those in `group_properties`; where these have no operation, they themselves
//! - properties.name: of a page `[Amplitude] Page Title`
//! - context.ip: `ip`, if the project stores addresses
//! - context.library: `library`, as `NAME/VERSION`
//! - context.amplitude: everything else, such as `session_id`, `platform` and other operations on
//!   `user_properties`
//!
//! Sources: Amplitude's HTTP V2 API; the SDKs `amplitude-analytics`, `@amplitude/analytics-node` and
//! `@amplitude/analytics-browser`.

use std::borrow::Cow;

use super::address::is_address;
use super::builder::EventBuilder;
use super::call::{Call, NAME, is_empty};
use super::definition::{Dialect, DocumentForms, Framing, InvalidEvents, KeyPlaces, RawEvent};
use crate::event::Rejection;
use crate::json::{Container, Value};

const FAMILY: &str = "amplitude";
const KEY: &str = "api_key";
/// The property that holds the name of a page.
const TITLE: &str = "[Amplitude] Page Title";

/// `/2/httpapi` and `/batch`
pub static EVENTS: Dialect = Dialect {
    name: "amplitude",
    framing: Framing::Document(DocumentForms { envelope: Some("events"), array: false, single: false }),
    expected: r#"{"api_key": ..., "events": [...]}"#,
    read_event: |event| read_event(event, None),
    invalid: InvalidEvents::DeadLettered,
    keys: KeyPlaces { root: &[KEY], first_event: &[] },
};

/// The identifications of `/identify`, which its form has in one field.
pub static IDENTIFY: Dialect = Dialect {
    name: "amplitude-identify",
    framing: Framing::Document(DocumentForms { envelope: None, array: true, single: true }),
    expected: "one identification, an object, or an array of them",
    read_event: |event| read_event(event, Some("$identify")),
    invalid: InvalidEvents::DeadLettered,
    keys: KeyPlaces { root: &[KEY], first_event: &[] },
};

#[derive(Default)]
struct Fields<'a> {
    kind: Option<Value<'a>>,
    insert_id: Option<Value<'a>>,
    time: Option<Value<'a>>,
    user_id: Option<Value<'a>>,
    device_id: Option<Value<'a>>,
    event_properties: Option<Value<'a>>,
    user_properties: Option<Value<'a>>,
    group_properties: Option<Value<'a>>,
    library: Option<Value<'a>>,
    address: Option<Value<'a>>,
}

impl<'a> Fields<'a> {
    fn of(event: Container<'a>) -> Self {
        let mut fields = Self::default();
        for (name, value) in event.members() {
            let slot = match name {
                "event_type" => &mut fields.kind,
                "insert_id" => &mut fields.insert_id,
                "time" => &mut fields.time,
                "user_id" => &mut fields.user_id,
                "device_id" => &mut fields.device_id,
                "event_properties" => &mut fields.event_properties,
                "user_properties" => &mut fields.user_properties,
                "group_properties" => &mut fields.group_properties,
                "library" => &mut fields.library,
                "ip" => &mut fields.address,
                _ => continue,
            };
            *slot = Some(value);
        }
        fields
    }
}

/// Reads an event. `kind` is the type of one that has none.
fn read_event<'a>(event: &RawEvent<'a>, kind: Option<&'static str>) -> Result<EventBuilder<'a>, Rejection> {
    let fields = Fields::of(event.object);
    let sent = match fields.kind {
        Some(Value::String(sent, _)) if !sent.is_empty() => Some(sent),
        _ => kind,
    };
    let name = match sent {
        Some("$identify") => Some("$identify"),
        Some("$groupidentify") => Some("$group"),
        Some("[Amplitude] Page Viewed") => Some("$page"),
        _ => None,
    };
    let mut call = match name {
        Some(name) => Call::of_kind(FAMILY, event, Cow::Borrowed(name)),
        None => Call::named(FAMILY, event, ("event_type", fields.kind))?,
    };
    if let (Some(name), Some(kind @ Value::String(sent, _))) = (name, fields.kind)
        && name != sent
    {
        call.keep("event_type", kind)?;
    }
    call.identify(("insert_id", fields.insert_id), ("time", fields.time))?;
    let is_user = fields.user_id.is_some_and(|id| !is_empty(id));
    call.subject(&[("user_id", fields.user_id), ("device_id", fields.device_id.filter(|_| !is_user))])?;
    call.library_text(("library", fields.library), |text| text.rsplit_once('/'))?;
    call.address(fields.address);
    match name {
        Some("$identify") => traits(&mut call, "user_properties", fields.user_properties)?,
        Some("$group") => traits(&mut call, "group_properties", fields.group_properties)?,
        _ => call.properties(("event_properties", fields.event_properties), |_, _| false)?,
    }
    if let (Some("$page"), Some(Value::Object(properties))) = (name, fields.event_properties)
        && properties.member(NAME).is_none()
        && let Some(title @ Value::String(..)) = properties.member(TITLE)
    {
        call.add_property(NAME, title)?;
    }
    for (member, value) in event.shared.iter().copied().chain(event.object.members()) {
        let has_place = match member {
            KEY | "event_type" | "insert_id" | "time" | "user_id" | "library" => true,
            "client_upload_time" | "request_metadata" | "events" => true,
            "ip" => is_address(value),
            "device_id" => !is_user,
            "event_properties" => !matches!(name, Some("$identify" | "$group")),
            "user_properties" => name == Some("$identify"),
            "group_properties" => name == Some("$group"),
            "options" => matches!(value, Value::Object(options) if options.is_empty()),
            _ => false,
        };
        let is_nothing = is_empty(value) || matches!(value, Value::Object(object) if object.is_empty());
        if !has_place && !is_nothing {
            call.keep(member, value)?;
        }
    }
    Ok(call.finish())
}

/// Makes the traits the properties: those in `$set`, or else all of an object without operations.
fn traits<'a>(call: &mut Call<'a>, field: &'static str, value: Option<Value<'a>>) -> Result<(), Rejection> {
    let Some(Value::Object(object)) = value else { return call.properties((field, value), |_, _| false) };
    if !object.members().any(|(name, _)| name.starts_with('$')) {
        return call.properties((field, value), |_, _| false);
    }
    let set = object.member("$set").filter(|set| matches!(set, Value::Object(_)));
    call.properties((field, set), |_, _| false)?;
    call.keep_without(field, object, |name, _| name == "$set" && set.is_some())
}
