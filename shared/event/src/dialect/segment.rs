//! Segment's tracking format, as its SDKs and RudderStack's send it: `{"batch":[…]}`, or a single call whose
//! type the path names.
//!
//! | column | source |
//! |---|---|
//! | id | `messageId` |
//! | name | `event` of a track call; otherwise `$identify`, `$page`, `$screen`, `$group`, `$alias` |
//! | timestamp | `timestamp`, or else `originalTimestamp`, as sent |
//! | subject | `userId`, or else `anonymousId` |
//! | properties | `properties` or `traits`; of an alias call `{"previousId": …}` |
//! | context | `context`, with every other field under `context.segment` |
//!
//! If the client's context has a member `segment`, the other fields are under `context.$segment` instead.
//!
//! `sentAt` never corrects a timestamp: it differs at every retry, so a corrected retry would be another
//! event.
//!
//! The `context` and the other fields of a batch apply to each of its calls; a call's own values take
//! precedence.
//!
//! SDKs drop a whole batch on a 4xx, so this dialect is lenient where nothing is lost by it: a number is
//! accepted as an id, and unknown fields are kept.

use std::borrow::Cow;

use super::builder::EventBuilder;
use super::definition::{Dialect, DocumentForms, Framing, InvalidEvents, RawEvent};
use super::validator::{Validator, without_nul};
use crate::event::{ID_BYTES_MAX, Rejection, RejectionCode, SUBJECT_BYTES_MAX};
use crate::json::{Container, Unstorable, Value};

/// The member of the root object that holds the calls.
const ENVELOPE: &str = "batch";
/// The member of the root object, or of a single call, where SDKs put the key that they do not send as
/// `Authorization`. It is never stored.
const KEY: &str = "writeKey";
/// The member of the context for fields that have no column.
const REST: &str = "segment";
/// The same, if the client's context already has a member `segment`.
const REST_RENAMED: &str = "$segment";

/// `{"batch":[…]}`
pub static BATCH: Dialect = Dialect {
    name: "batch",
    framing: Framing::Document(DocumentForms { envelope: Some(ENVELOPE), array: false, single: false }),
    expected: r#"{"batch": [...]}"#,
    read_event: |event| read_call(event, None),
    invalid: InvalidEvents::DeadLettered,
    key_member: Some(KEY),
};

pub static TRACK: Dialect = call("track", |event| read_call(event, Some("track")));
pub static IDENTIFY: Dialect = call("identify", |event| read_call(event, Some("identify")));
pub static PAGE: Dialect = call("page", |event| read_call(event, Some("page")));
pub static SCREEN: Dialect = call("screen", |event| read_call(event, Some("screen")));
pub static GROUP: Dialect = call("group", |event| read_call(event, Some("group")));
pub static ALIAS: Dialect = call("alias", |event| read_call(event, Some("alias")));

/// The dialect of a path that takes a single call.
const fn call(
    name: &'static str,
    read_event: for<'a> fn(&RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection>,
) -> Dialect {
    Dialect {
        name,
        framing: Framing::Document(DocumentForms { envelope: None, array: false, single: true }),
        expected: "one call, an object",
        read_event,
        invalid: InvalidEvents::DeadLettered,
        key_member: Some(KEY),
    }
}

/// Reads one call. `path_type` is the type that the path names, for calls without a `type`.
fn read_call<'a>(
    event: &RawEvent<'a>,
    path_type: Option<&'static str>,
) -> Result<EventBuilder<'a>, Rejection> {
    let validator = Validator { index: event.index };
    let fields = Fields::of(event.object);
    let mut builder = EventBuilder::new(name_of(&fields, path_type, validator)?);
    let id = text_or_number(validator, "messageId", fields.message_id, ID_BYTES_MAX)?;
    let timestamp = match validator.timestamp("timestamp", fields.timestamp)? {
        Some(us) => Some(us),
        None => validator.timestamp("originalTimestamp", fields.original_timestamp)?,
    };
    builder.identify(event.origin, event.index, id, timestamp);
    let user = text_or_number(validator, "userId", fields.user_id, SUBJECT_BYTES_MAX)?;
    let anonymous = text_or_number(validator, "anonymousId", fields.anonymous_id, SUBJECT_BYTES_MAX)?;
    builder.subject = user.or(anonymous);
    builder.properties = match validator.object("properties", fields.properties)? {
        Some(properties) => Some(properties),
        None => validator.object("traits", fields.traits)?,
    };
    if let (None, Some(previous)) = (&builder.properties, fields.previous_id) {
        let properties = one_member("previousId", previous);
        builder.properties = Some(properties.map_err(|what| validator.unstorable(None, what))?);
    }
    builder.context = Some(context_of(&fields, event.object, event.envelope, validator)?);
    Ok(builder)
}

#[derive(Default)]
struct Fields<'a> {
    kind: Option<Value<'a>>,
    event: Option<Value<'a>>,
    message_id: Option<Value<'a>>,
    timestamp: Option<Value<'a>>,
    original_timestamp: Option<Value<'a>>,
    user_id: Option<Value<'a>>,
    anonymous_id: Option<Value<'a>>,
    previous_id: Option<Value<'a>>,
    properties: Option<Value<'a>>,
    traits: Option<Value<'a>>,
    context: Option<Value<'a>>,
}

impl<'a> Fields<'a> {
    fn of(call: Container<'a>) -> Self {
        let mut fields = Self::default();
        for (name, value) in call.members() {
            let slot = match name {
                "type" => &mut fields.kind,
                "event" => &mut fields.event,
                "messageId" => &mut fields.message_id,
                "timestamp" => &mut fields.timestamp,
                "originalTimestamp" => &mut fields.original_timestamp,
                "userId" => &mut fields.user_id,
                "anonymousId" => &mut fields.anonymous_id,
                "previousId" => &mut fields.previous_id,
                "properties" => &mut fields.properties,
                "traits" => &mut fields.traits,
                "context" => &mut fields.context,
                _ => continue,
            };
            *slot = Some(value);
        }
        fields
    }
}

fn name_of<'a>(
    fields: &Fields<'a>,
    path_type: Option<&'static str>,
    validator: Validator,
) -> Result<Cow<'a, str>, Rejection> {
    let own_type = match fields.kind {
        Some(Value::String(own, _)) => Some(own),
        _ => None,
    };
    let named = match own_type.or(path_type) {
        Some("track") => return validator.name("event", fields.event),
        Some("identify") => "$identify",
        Some("page") => "$page",
        Some("screen") => "$screen",
        Some("group") => "$group",
        Some("alias") => "$alias",
        _ => {
            let message = "type must be one of track, identify, page, screen, group, alias".to_owned();
            return Err(validator.reject_field("type", RejectionCode::InvalidType, message));
        }
    };
    Ok(Cow::Borrowed(named))
}

fn text_or_number<'a>(
    validator: Validator,
    field: &str,
    value: Option<Value<'a>>,
    bytes_max: usize,
) -> Result<Option<Cow<'a, str>>, Rejection> {
    match value {
        Some(Value::String("", _)) => Ok(None),
        Some(Value::Number(bytes)) if bytes.len() <= bytes_max => Ok(Some(String::from_utf8_lossy(bytes))),
        other => validator.text(field, other, bytes_max),
    }
}

fn one_member<'a>(name: &str, value: Value<'_>) -> Result<Cow<'a, [u8]>, Unstorable> {
    let mut object = Vec::new();
    push_member(&mut object, name, &value.storable()?);
    object.push(b'}');
    Ok(Cow::Owned(object))
}

/// Appends a member to an object, and opens the object if it is empty.
fn push_member(object: &mut Vec<u8>, name: &str, value: &[u8]) {
    object.push(if object.is_empty() { b'{' } else { b',' });
    let quoted = serde_json::to_string(name).expect("a string is JSON");
    object.extend_from_slice(quoted.as_bytes());
    object.push(b':');
    object.extend_from_slice(value);
}

/// The call's context, with every field that has no column. Of members with the same name jsonb keeps the
/// last, so the envelope's values come first and the call's own values override them.
fn context_of<'a>(
    fields: &Fields<'a>,
    call: Container<'a>,
    envelope: Option<Container<'a>>,
    validator: Validator,
) -> Result<Cow<'a, [u8]>, Rejection> {
    let mut rest = Vec::new();
    let shared_fields =
        envelope.iter().flat_map(Container::members).filter(|(name, _)| !is_of_envelope_only(name));
    for (name, value) in shared_fields.chain(call.members().filter(|(name, _)| !has_column(name, fields))) {
        if !matches!(value, Value::Null) {
            let value = value.storable().map_err(|what| validator.unstorable(Some(name), what))?;
            push_member(&mut rest, &without_nul(name), &value);
        }
    }
    let shared = envelope.and_then(|envelope| envelope.member("context"));
    let mut context = Vec::new();
    for own in [shared, fields.context] {
        let Some(own) = validator.object("context", own)?.filter(|own| !is_empty_object(own)) else {
            continue;
        };
        context.push(if context.is_empty() { b'{' } else { b',' });
        context.extend_from_slice(&own[1..own.len() - 1]);
    }
    if !rest.is_empty() {
        rest.push(b'}');
        let name =
            if has_member(fields.context, REST) || has_member(shared, REST) { REST_RENAMED } else { REST };
        push_member(&mut context, name, &rest);
    }
    if context.is_empty() {
        context.push(b'{');
    }
    context.push(b'}');
    Ok(Cow::Owned(context))
}

fn has_member(object: Option<Value<'_>>, name: &str) -> bool {
    matches!(object, Some(Value::Object(object)) if object.member(name).is_some())
}

/// Whether a field of the envelope is not copied into each call's context as it is.
fn is_of_envelope_only(name: &str) -> bool {
    matches!(name, ENVELOPE | "context" | "writeKey")
}

fn has_column(name: &str, fields: &Fields<'_>) -> bool {
    match name {
        "messageId" | "timestamp" | "userId" | "properties" | "context" | "writeKey" => true,
        "event" => matches!(fields.kind, None | Some(Value::String("track", _))),
        "traits" => !matches!(fields.properties, Some(Value::Object(_))),
        _ => false,
    }
}

fn is_empty_object(object: &[u8]) -> bool {
    object[1..object.len() - 1].trim_ascii().is_empty()
}
