//! PostHog's capture format: `{"batch":[…]}`, an array of events as its SDK for web pages sends it, or one
//! event.
//!
//! - id: `uuid`
//! - name: `event`; of `$pageview`, `$screen`, `$identify`, `$set`, `$groupidentify` and `$create_alias` the
//!   name that every dialect gives to such calls
//! - timestamp: `timestamp`, as sent, or else the time in the id, which is a UUIDv7
//! - subject: `distinct_id`, of the event or in its properties
//! - properties: `properties`; of `$identify` and `$set` the traits in `$set`, of `$groupidentify` those in
//!   `$group_set`
//! - properties.name: of a page `properties.title`, of a screen `properties.$screen_name`
//! - context.ip: `properties.$ip`, if the project stores addresses
//! - context.library: `properties.$lib` and `properties.$lib_version`, or else [`SDK_INFO`]
//! - context.posthog: everything else; the other properties of a call with traits are in `properties` there
//!
//! `sent_at` and `offset` never correct a timestamp: both would make a repeated event another one.
//!
//! Sources: the SDKs `posthog` for Python, `posthog-node` and `posthog-js`.

use std::borrow::Cow;

use super::address::is_address;
use super::builder::EventBuilder;
use super::call::{Call, NAME, is_empty};
use super::definition::{Dialect, DocumentForms, Framing, InvalidEvents, KeyPlaces, RawEvent};
use crate::event::Rejection;
use crate::json::{Container, Value};

const FAMILY: &str = "posthog";
/// The member of a body into which the API puts the name and version of an SDK that sends them in a header:
/// `posthog-python/7.91.1`.
pub const SDK_INFO: &str = "$sdk_info";
/// Members that hold the project's key.
const KEYS: [&str; 2] = ["api_key", "token"];

/// All routes that take events.
pub static CAPTURE: Dialect = Dialect {
    name: "posthog",
    framing: Framing::Document(DocumentForms { envelope: Some("batch"), array: true, single: true }),
    expected: r#"{"batch": [...]}, an array of events or one event"#,
    read_event,
    invalid: InvalidEvents::DeadLettered,
    keys: KeyPlaces { root: &KEYS, first_event: &[&["properties", "token"], &["api_key"], &["token"]] },
};

/// A kind of event that PostHog names itself.
struct Kind {
    event: &'static str,
    name: &'static str,
    /// The member that holds the traits, which are then the properties.
    traits: Option<&'static str>,
    /// The property that holds the name of the page or screen.
    title: Option<&'static str>,
}

const KINDS: [Kind; 6] = [
    Kind { event: "$pageview", name: "$page", traits: None, title: Some("title") },
    Kind { event: "$screen", name: "$screen", traits: None, title: Some("$screen_name") },
    Kind { event: "$identify", name: "$identify", traits: Some("$set"), title: None },
    Kind { event: "$set", name: "$identify", traits: Some("$set"), title: None },
    Kind { event: "$groupidentify", name: "$group", traits: Some("$group_set"), title: None },
    Kind { event: "$create_alias", name: "$alias", traits: None, title: None },
];

fn read_event<'a>(event: &RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection> {
    let fields = Fields::of(event.object);
    let kind = match fields.event {
        Some(Value::String(name, _)) if name.starts_with('$') => KINDS.iter().find(|kind| kind.event == name),
        _ => None,
    };
    let mut call = match kind {
        Some(kind) => Call::of_kind(FAMILY, event, Cow::Borrowed(kind.name)),
        None => Call::named(FAMILY, event, ("event", fields.event))?,
    };
    if let (Some(kind), Some(value)) = (kind, fields.event)
        && kind.event != kind.name
    {
        call.keep("event", value)?;
    }
    let own = OwnProperties::of(fields.properties);
    call.identify(("uuid", fields.uuid), ("timestamp", fields.timestamp))?;
    call.subject(&[("distinct_id", fields.distinct_id.filter(|id| !is_empty(*id)).or(own.distinct_id))])?;
    call.address(own.address);
    match (own.library, event.shared.iter().find(|(name, _)| *name == SDK_INFO)) {
        (None, Some((_, info))) => {
            call.library_text((SDK_INFO, Some(*info)), |text| text.rsplit_once('/'))?
        }
        _ => call.library(("$lib", own.library), ("$lib_version", own.version))?,
    }
    match kind.and_then(|kind| kind.traits) {
        Some(name) => traits(&mut call, name, &fields)?,
        None => {
            call.properties(("properties", fields.properties), is_noted)?;
            let title = kind.and_then(|kind| kind.title).zip(own.object);
            if let Some((title, object)) = title
                && object.member(NAME).is_none()
                && let Some(title @ Value::String(..)) = object.member(title)
            {
                call.add_property(NAME, title)?;
            }
        }
    }
    for (name, value) in event.shared.iter().copied().chain(fields.others(event.object)) {
        if !is_bookkeeping(name, value) {
            call.keep(name, value)?;
        }
    }
    Ok(call.finish())
}

/// Makes the traits in this member, of the event or of its properties, the properties. The others are kept.
fn traits<'a>(call: &mut Call<'a>, name: &'static str, fields: &Fields<'a>) -> Result<(), Rejection> {
    let object = |value: Option<Value<'a>>| match value {
        Some(Value::Object(object)) => Some(object),
        _ => None,
    };
    let properties = object(fields.properties);
    let of_event = fields.set.filter(|_| name == "$set").filter(|set| matches!(set, Value::Object(_)));
    let of_properties =
        properties.and_then(|own| own.member(name)).filter(|traits| matches!(traits, Value::Object(_)));
    call.properties((name, of_event.or(of_properties)), |_, _| false)?;
    let is_stored = |member: &str, value: Value<'a>| {
        is_noted(member, value) || of_properties.is_some() && of_event.is_none() && member == name
    };
    match (fields.properties, properties) {
        (_, Some(own)) => call.keep_without("properties", own, is_stored)?,
        (Some(other), None) if !is_empty(other) => call.keep("properties", other)?,
        _ => {}
    }
    Ok(())
}

/// Properties that have another place, or none.
fn is_noted(name: &str, value: Value<'_>) -> bool {
    match name {
        "token" | "api_key" => true,
        "$lib" | "$lib_version" => matches!(value, Value::String(..)),
        "$ip" => is_address(value),
        _ => false,
    }
}

/// What is neither of use nor a part of the event.
fn is_bookkeeping(name: &str, value: Value<'_>) -> bool {
    match name {
        "api_key" | "token" | "sent_at" | "created_at" | "offset" | SDK_INFO => true,
        "historical_migration" => matches!(value, Value::Bool(b"false")),
        "options" => matches!(value, Value::Object(options) if options.is_empty()),
        _ => is_empty(value),
    }
}

#[derive(Default)]
struct Fields<'a> {
    event: Option<Value<'a>>,
    distinct_id: Option<Value<'a>>,
    uuid: Option<Value<'a>>,
    timestamp: Option<Value<'a>>,
    properties: Option<Value<'a>>,
    set: Option<Value<'a>>,
}

impl<'a> Fields<'a> {
    fn of(event: Container<'a>) -> Self {
        let mut fields = Self::default();
        for (name, value) in event.members() {
            let slot = match name {
                "event" => &mut fields.event,
                "distinct_id" => &mut fields.distinct_id,
                "uuid" => &mut fields.uuid,
                "timestamp" => &mut fields.timestamp,
                "properties" => &mut fields.properties,
                "$set" => &mut fields.set,
                _ => continue,
            };
            *slot = Some(value);
        }
        fields
    }

    /// The members of the event that have no place of their own.
    fn others(&self, event: Container<'a>) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let sets_traits = matches!(self.event, Some(Value::String("$identify" | "$set", _)))
            && matches!(self.set, Some(Value::Object(_)));
        event.members().filter(move |(name, _)| match *name {
            "event" | "distinct_id" | "uuid" | "timestamp" | "properties" => false,
            "$set" => !sets_traits,
            _ => true,
        })
    }
}

/// The properties that have a place of their own.
#[derive(Default)]
struct OwnProperties<'a> {
    object: Option<Container<'a>>,
    distinct_id: Option<Value<'a>>,
    library: Option<Value<'a>>,
    version: Option<Value<'a>>,
    address: Option<Value<'a>>,
}

impl<'a> OwnProperties<'a> {
    fn of(properties: Option<Value<'a>>) -> Self {
        let Some(Value::Object(object)) = properties else { return Self::default() };
        let mut own = Self { object: Some(object), ..Self::default() };
        for (name, value) in object.members() {
            let slot = match name {
                "distinct_id" => &mut own.distinct_id,
                "$lib" => &mut own.library,
                "$lib_version" => &mut own.version,
                "$ip" => &mut own.address,
                _ => continue,
            };
            *slot = Some(value);
        }
        own
    }
}
