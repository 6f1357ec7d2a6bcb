//! Segment's tracking format, as its SDKs and RudderStack's send it: `{"batch":[…]}`, or one call whose type is named
//! by the path.
//!
//! | column | from |
//! |---|---|
//! | id | `messageId` |
//! | name | `event` of a track call; otherwise `$identify`, `$page`, `$screen`, `$group`, `$alias` |
//! | timestamp | `timestamp`, otherwise `originalTimestamp`, as sent: `sentAt` is another at every retry, so correcting a clock by it would make a retry another event |
//! | subject | `userId`, otherwise `anonymousId` |
//! | properties | `properties` or `traits`; of an alias `{"previousId": …}` |
//! | context | `context`, with every other field under `context.segment` (`$segment` when the client has a `segment` there) |
//!
//! A batch's own `context` and other fields belong to each of its calls; what a call says itself comes first.
//!
//! SDKs drop a whole batch on a 4xx, so this dialect is lenient where nothing is lost by it: a number is taken for an
//! id, and fields we do not know are kept.

use std::borrow::Cow;

use super::reader::{EventReader, Reading, without_nul};
use crate::event::{ID_BYTES_MAX, Origin, Rejection, RejectionCode, SUBJECT_BYTES_MAX};
use crate::json::{Container, Unstorable, Value};

/// The member of the envelope that holds the calls.
pub const ENVELOPE: &str = "batch";
/// The member of the context that holds what has no column.
const REST: &str = "segment";
/// The same, beside a `segment` of the client's own.
const REST_BESIDE: &str = "$segment";

/// Reads one call. `path_type` is the type the path names, for calls that do not name their own; `envelope` is the
/// batch around it.
///
/// # Errors
/// What is wrong with it.
pub fn read_call<'a>(
    call: Container<'a>,
    path_type: Option<&'static str>,
    envelope: Option<Container<'a>>,
    origin: Origin,
    index: usize,
) -> Result<EventReader<'a>, Rejection> {
    let reading = Reading { index };
    let fields = Fields::of(call);
    let name = name_of(&fields, path_type, reading)?;
    let mut reader = EventReader::new(name);
    let id = text_or_number(reading, "messageId", fields.message_id, ID_BYTES_MAX)?;
    let timestamp = match reading.timestamp("timestamp", fields.timestamp)? {
        Some(us) => Some(us),
        None => reading.timestamp("originalTimestamp", fields.original_timestamp)?,
    };
    reader.identify(origin, index, id, timestamp);
    let user = text_or_number(reading, "userId", fields.user_id, SUBJECT_BYTES_MAX)?;
    let anonymous = text_or_number(reading, "anonymousId", fields.anonymous_id, SUBJECT_BYTES_MAX)?;
    reader.subject = user.or(anonymous);
    reader.properties = match reading.object("properties", fields.properties)? {
        Some(properties) => Some(properties),
        None => reading.object("traits", fields.traits)?,
    };
    if let (None, Some(previous)) = (&reader.properties, fields.previous_id) {
        reader.properties =
            Some(one_member("previousId", previous).map_err(|what| reading.unstorable(None, what))?);
    }
    reader.context = Some(context_of(&fields, call, envelope, reading)?);
    Ok(reader)
}

/// The `writeKey` in a body, where SDKs put it that send no `Authorization`.
pub fn write_key(body: Container<'_>) -> Option<String> {
    match body.member("writeKey")? {
        Value::String(key, _) => Some(key.to_owned()),
        _ => None,
    }
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
    reading: Reading,
) -> Result<Cow<'a, str>, Rejection> {
    let own_type = match fields.kind {
        Some(Value::String(own, _)) => Some(own),
        _ => None,
    };
    let named = match own_type.or(path_type) {
        Some("track") => {
            return reading.name(fields.event).map_err(|rejection| Rejection {
                field: Some(Cow::Borrowed("event")),
                message: rejection.message.replace("name", "event"),
                ..rejection
            });
        }
        Some("identify") => "$identify",
        Some("page") => "$page",
        Some("screen") => "$screen",
        Some("group") => "$group",
        Some("alias") => "$alias",
        _ => {
            let message = "type must be one of track, identify, page, screen, group, alias".to_owned();
            return Err(reading.field("type", RejectionCode::InvalidType, message));
        }
    };
    Ok(Cow::Borrowed(named))
}

fn text_or_number<'a>(
    reading: Reading,
    field: &str,
    value: Option<Value<'a>>,
    bytes_max: usize,
) -> Result<Option<Cow<'a, str>>, Rejection> {
    match value {
        Some(Value::String("", _)) => Ok(None),
        Some(Value::Number(bytes)) if bytes.len() <= bytes_max => Ok(Some(String::from_utf8_lossy(bytes))),
        other => reading.text(field, other, bytes_max),
    }
}

fn one_member<'a>(name: &str, value: Value<'_>) -> Result<Cow<'a, [u8]>, Unstorable> {
    let mut object = Vec::new();
    push_member(&mut object, name, &value.storable()?);
    object.push(b'}');
    Ok(Cow::Owned(object))
}

/// Opens an object with its first member, or adds one more.
fn push_member(object: &mut Vec<u8>, name: &str, value: &[u8]) {
    object.push(if object.is_empty() { b'{' } else { b',' });
    let quoted = serde_json::to_string(name).expect("a string is JSON");
    object.extend_from_slice(quoted.as_bytes());
    object.push(b':');
    object.extend_from_slice(value);
}

/// The call's context, and in it every field that has no column. Of members with one name jsonb keeps the last, so what
/// the envelope says stands first.
fn context_of<'a>(
    fields: &Fields<'a>,
    call: Container<'a>,
    envelope: Option<Container<'a>>,
    reading: Reading,
) -> Result<Cow<'a, [u8]>, Rejection> {
    let mut rest = Vec::new();
    let of_envelope =
        envelope.iter().flat_map(Container::members).filter(|(name, _)| !is_envelopes_own(name));
    for (name, value) in of_envelope.chain(call.members().filter(|(name, _)| !has_column(name, fields))) {
        if !matches!(value, Value::Null) {
            let value = value.storable().map_err(|what| reading.unstorable(Some(name), what))?;
            push_member(&mut rest, &without_nul(name), &value);
        }
    }
    let shared = envelope.and_then(|envelope| envelope.member("context"));
    let mut context = Vec::new();
    for own in [shared, fields.context] {
        let Some(own) = reading.object("context", own)?.filter(|own| !is_empty_object(own)) else { continue };
        context.push(if context.is_empty() { b'{' } else { b',' });
        context.extend_from_slice(&own[1..own.len() - 1]);
    }
    if !rest.is_empty() {
        rest.push(b'}');
        let name =
            if has_member(fields.context, REST) || has_member(shared, REST) { REST_BESIDE } else { REST };
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

fn is_envelopes_own(name: &str) -> bool {
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
