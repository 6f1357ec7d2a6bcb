//! Mixpanel's formats: events, and updates of the profiles of users and groups; one of them or an array. Of
//! an event:
//!
//! - id: `properties.$insert_id`
//! - name: `event`; `$page` for `$mp_web_page_view`, and `$alias` for `$create_alias`
//! - timestamp: `properties.time`, seconds or milliseconds since 1970
//! - subject: `properties.distinct_id`, or else `$user_id` or `$device_id` there
//! - properties: `properties`
//! - properties.name: of a page `properties.current_page_title`
//! - context.ip: `properties.ip`, if the project stores addresses; of an update `$ip`
//! - context.library: `properties.mp_lib` and `properties.$lib_version`
//! - context.mixpanel: everything else
//!
//! An update is named `$identify` or `$group`. Its subject is `$distinct_id` or `$group_id`, its time
//! `$time`, and its properties are the members of `$set`. It has no id: only an `Idempotency-Key` makes it
//! repeatable.
//!
//! Sources: Mixpanel's ingestion API; the SDKs `mixpanel` for Python and Node, and `mixpanel-browser`.

use std::borrow::Cow;

use super::address::is_address;
use super::builder::EventBuilder;
use super::call::{Call, NAME, is_empty};
use super::definition::{Dialect, DocumentForms, Framing, InvalidEvents, KeyPlaces, RawEvent};
use crate::event::Rejection;
use crate::json::{Container, Value};

const FAMILY: &str = "mixpanel";
const TOKEN: &str = "token";
const TITLE: &str = "current_page_title";

/// `/track` and `/import`
pub static EVENTS: Dialect = Dialect {
    name: "mixpanel",
    framing: Framing::Document(DocumentForms { envelope: None, array: true, single: true }),
    expected: "one event, an object, or an array of events",
    read_event,
    invalid: InvalidEvents::DeadLettered,
    keys: KeyPlaces { root: &[], first_event: &[&["properties", TOKEN]] },
};

/// `/engage`
pub static PEOPLE: Dialect =
    updates("mixpanel-people", |event| read_update(event, "$identify", "$distinct_id"));
/// `/groups`
pub static GROUPS: Dialect = updates("mixpanel-groups", |event| read_update(event, "$group", "$group_id"));

const fn updates(
    name: &'static str,
    read_event: for<'a> fn(&RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection>,
) -> Dialect {
    Dialect {
        name,
        framing: Framing::Document(DocumentForms { envelope: None, array: true, single: true }),
        expected: "one update, an object, or an array of updates",
        read_event,
        invalid: InvalidEvents::DeadLettered,
        keys: KeyPlaces { root: &[], first_event: &[&["$token"]] },
    }
}

#[derive(Default)]
struct Properties<'a> {
    object: Option<Container<'a>>,
    insert_id: Option<Value<'a>>,
    time: Option<Value<'a>>,
    distinct_id: Option<Value<'a>>,
    user_id: Option<Value<'a>>,
    device_id: Option<Value<'a>>,
    library: Option<Value<'a>>,
    version: Option<Value<'a>>,
    address: Option<Value<'a>>,
}

impl<'a> Properties<'a> {
    fn of(properties: Option<Value<'a>>) -> Self {
        let Some(Value::Object(object)) = properties else { return Self::default() };
        let mut found = Self { object: Some(object), ..Self::default() };
        for (name, value) in object.members() {
            let slot = match name {
                "$insert_id" => &mut found.insert_id,
                "time" => &mut found.time,
                "distinct_id" => &mut found.distinct_id,
                "$user_id" => &mut found.user_id,
                "$device_id" => &mut found.device_id,
                "mp_lib" => &mut found.library,
                "$lib_version" => &mut found.version,
                "ip" => &mut found.address,
                _ => continue,
            };
            *slot = Some(value);
        }
        found
    }
}

fn read_event<'a>(event: &RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection> {
    let (mut kind, mut properties) = (None, None);
    for (name, value) in event.object.members() {
        match name {
            "event" => kind = Some(value),
            "properties" => properties = Some(value),
            _ => {}
        }
    }
    let name = match kind {
        Some(Value::String("$mp_web_page_view", _)) => Some("$page"),
        Some(Value::String("$create_alias", _)) => Some("$alias"),
        _ => None,
    };
    let mut call = match name {
        Some(name) => Call::of_kind(FAMILY, event, Cow::Borrowed(name)),
        None => Call::named(FAMILY, event, ("event", kind))?,
    };
    if let (Some(_), Some(kind)) = (name, kind) {
        call.keep("event", kind)?;
    }
    let own = Properties::of(properties);
    call.identify(("$insert_id", own.insert_id), ("time", own.time))?;
    let ids = [("distinct_id", own.distinct_id), ("$user_id", own.user_id), ("$device_id", own.device_id)];
    let subject = ids.into_iter().find(|(_, id)| id.is_some_and(|id| !is_empty(id)));
    call.subject(&[subject.unwrap_or(("distinct_id", None))])?;
    call.library(("mp_lib", own.library), ("$lib_version", own.version))?;
    call.address(own.address);
    let has_place = |member: &str, value: Value<'a>| match member {
        TOKEN | "$insert_id" | "time" => true,
        "distinct_id" => subject.is_some_and(|(field, _)| field == member),
        "mp_lib" | "$lib_version" => matches!(value, Value::String(..)),
        "ip" => is_address(value),
        _ => false,
    };
    call.properties(("properties", properties), has_place)?;
    if let (Some("$page"), Some(object)) = (name, own.object)
        && object.member(NAME).is_none()
        && let Some(title @ Value::String(..)) = object.member(TITLE)
    {
        call.add_property(NAME, title)?;
    }
    for (member, value) in event.object.members() {
        if !matches!(member, "event" | "properties") && !is_empty(value) {
            call.keep(member, value)?;
        }
    }
    Ok(call.finish())
}

fn read_update<'a>(
    event: &RawEvent<'a>,
    name: &'static str,
    subject: &'static str,
) -> Result<EventBuilder<'a>, Rejection> {
    let mut call = Call::of_kind(FAMILY, event, Cow::Borrowed(name));
    let member = |name: &str| event.object.member(name);
    call.identify(("$insert_id", member("$insert_id")), ("$time", member("$time")))?;
    call.subject(&[(subject, member(subject))])?;
    call.address(member("$ip"));
    let set = member("$set").filter(|set| matches!(set, Value::Object(_)));
    call.properties(("$set", set), |_, _| false)?;
    for (member, value) in event.object.members() {
        let has_place = match member {
            "$token" | "$insert_id" | "$time" => true,
            "$set" => set.is_some(),
            "$ip" => is_address(value),
            member => member == subject || is_empty(value),
        };
        if !has_place {
            call.keep(member, value)?;
        }
    }
    Ok(call.finish())
}
