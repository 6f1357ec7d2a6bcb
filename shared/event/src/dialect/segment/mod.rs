//! Segment's tracking format, as its SDKs and RudderStack's send it: `{"batch":[…]}`, or a single call whose
//! type the path names.
//!
//! | column | source |
//! |---|---|
//! | id | `messageId` |
//! | name | `event` of a track call; otherwise `$identify`, `$page`, `$screen`, `$group`, `$alias` |
//! | timestamp | `timestamp`, or else `originalTimestamp`, as sent |
//! | subject | `userId`, or else `anonymousId` |
//! | properties | `properties`, or else `traits` or `context.traits`; of an alias call `{"previousId": …}` |
//! | properties.name, .category | of a page or a screen its own, unless the properties have one |
//! | context.ip | `context.ip`, if the project stores addresses |
//! | context | `context`, with every other field under `context.segment` |
//!
//! If the client's context has a member `segment`, the other fields are under `context.$segment` instead.
//!
//! `sentAt` never corrects a timestamp: it differs at every retry, so a corrected retry would be another
//! event. Neither it, nor `_metadata`, nor `integrations` that choose none, is stored.
//!
//! The `context` and the other fields of a batch apply to each of its calls; a call's own values take
//! precedence.
//!
//! SDKs drop a whole batch on a 4xx, and read no list of rejected calls. So what has one clear meaning is
//! repaired, a value that does not fit its column is kept whole under `context.segment`, and a call that
//! cannot be repaired becomes a dead letter.

mod context;

use std::borrow::Cow;

use self::context::{Contexts, is_bookkeeping, one_member};
use super::address::ADDRESS;
use super::bounds::Bounds;
use super::builder::EventBuilder;
use super::call::{NAME, close_with, push_member, read_time, scalar_text, shortened_id, shortened_name};
use super::definition::{Dialect, DocumentForms, Framing, InvalidEvents, KeyPlaces, RawEvent};
use super::validator::Validator;
use crate::event::{ID_BYTES_MAX, Origin, Rejection, RejectionCode, SUBJECT_BYTES_MAX};
use crate::json::{Container, Value};
use crate::key::KEY_MEMBER;

/// The member of the root object that holds the calls.
const ENVELOPE: &str = "batch";
/// The names of events that are no track calls, by their types.
const TYPES: [(&str, &str); 5] = [
    ("identify", "$identify"),
    ("page", "$page"),
    ("screen", "$screen"),
    ("group", "$group"),
    ("alias", "$alias"),
];
const TRACK_TYPE: &str = "track";

/// `{"batch":[…]}`
pub static BATCH: Dialect = Dialect {
    name: "batch",
    framing: Framing::Document(DocumentForms { envelope: Some(ENVELOPE), array: false, single: false }),
    expected: r#"{"batch": [...]}"#,
    read_event: |event| read_call(event, None),
    invalid: InvalidEvents::DeadLettered,
    keys: KeyPlaces { root: &[KEY_MEMBER], first_event: &[] },
};

pub static TRACK: Dialect = call("track", |event| read_call(event, Some("track")));
pub static IDENTIFY: Dialect = call("identify", |event| read_call(event, Some("identify")));
pub static PAGE: Dialect = call("page", |event| read_call(event, Some("page")));
pub static SCREEN: Dialect = call("screen", |event| read_call(event, Some("screen")));
pub static GROUP: Dialect = call("group", |event| read_call(event, Some("group")));
pub static ALIAS: Dialect = call("alias", |event| read_call(event, Some("alias")));
/// A single call of any type, which only the call itself names.
pub static CALL: Dialect = call("call", |event| read_call(event, None));

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
        keys: KeyPlaces { root: &[KEY_MEMBER], first_event: &[] },
    }
}

/// Reads one call. `path_type` is the type that the path names, for calls without a known `type`.
fn read_call<'a>(
    event: &RawEvent<'a>,
    path_type: Option<&'static str>,
) -> Result<EventBuilder<'a>, Rejection> {
    let validator = Validator { index: event.index };
    let fields = Fields::of(event.object);
    let kind = kind_of(fields.kind, path_type, validator)?;
    let is_track = kind == TRACK_TYPE;
    let mut kept = KeptFields { event: !is_track, ..KeptFields::default() };
    let name = if is_track { name_of(fields.event, &mut kept, validator)? } else { Cow::Borrowed(kind) };
    let mut builder = EventBuilder::new(name);
    identify(&mut builder, &fields, &mut kept, event.origin, validator)?;
    let user = scalar_text(fields.user_id);
    kept.user_id = is_lost(fields.user_id, user.as_deref(), SUBJECT_BYTES_MAX);
    let subject = user.or_else(|| scalar_text(fields.anonymous_id));
    builder.subject = subject.map(|id| shortened_id(id, SUBJECT_BYTES_MAX));
    let contexts = Contexts::of(fields.context, event.shared);
    builder.properties = match object("properties", fields.properties, validator)? {
        Some(properties) => {
            kept.traits = true;
            Some(properties)
        }
        None => object("traits", fields.traits, validator)?,
    };
    if builder.properties.is_none() {
        builder.properties = match (kind, contexts.member("traits"), fields.previous_id) {
            ("$identify" | "$group", Some(traits @ Value::Object(_)), _) => {
                object("context.traits", Some(traits), validator)?
            }
            (_, _, Some(previous)) => {
                Some(one_member("previousId", previous).map_err(|what| validator.unstorable(None, what))?)
            }
            _ => None,
        };
    }
    if event.origin.policy.store_ip {
        builder.set_address(contexts.member(ADDRESS));
    }
    let mut titles = Titles::default();
    if matches!(kind, "$page" | "$screen") {
        titles = Titles::of(&fields);
        builder.properties = titles.put_into(builder.properties.take(), validator)?;
    }
    let has_place =
        |name: &str, value| kept.has_column(name) || titles.has(name) || is_bookkeeping(name, value);
    builder.context = Some(contexts.write(event.object, event.shared, has_place, validator)?);
    Ok(builder)
}

/// The name and the category of a page or a screen, which the properties get unless they have their own.
#[derive(Default)]
struct Titles<'a>([Option<(&'static str, Value<'a>)>; 2]);

impl<'a> Titles<'a> {
    fn of(fields: &Fields<'a>) -> Self {
        let own = [fields.properties, fields.traits].into_iter().flatten().find_map(|value| match value {
            Value::Object(object) => Some(object),
            _ => None,
        });
        let title = |name, value: Option<Value<'a>>| {
            let value = value.filter(|value| matches!(value, Value::String(..)))?;
            own.is_none_or(|own| own.member(name).is_none()).then_some((name, value))
        };
        Self([title(NAME, fields.name), title("category", fields.category)])
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().flatten().any(|(title, _)| *title == name)
    }

    fn put_into(
        &self,
        own: Option<Cow<'a, [u8]>>,
        validator: Validator,
    ) -> Result<Option<Cow<'a, [u8]>>, Rejection> {
        let mut properties = Vec::new();
        for (name, value) in self.0.iter().flatten() {
            let json = value.storable().map_err(|what| validator.unstorable(Some(name), what))?;
            push_member(&mut properties, name, &json);
        }
        if properties.is_empty() {
            return Ok(own);
        }
        close_with(&mut properties, own.as_deref());
        Ok(Some(Cow::Owned(properties)))
    }
}

/// The fields of a call that are also kept in the context, because their column has less.
#[derive(Default)]
struct KeptFields {
    event: bool,
    message_id: bool,
    timestamp: bool,
    user_id: bool,
    traits: bool,
}

impl KeptFields {
    /// Whether a column has all of this field.
    fn has_column(&self, name: &str) -> bool {
        match name {
            "properties" | "context" | KEY_MEMBER => true,
            "event" => !self.event,
            "messageId" => !self.message_id,
            "timestamp" => !self.timestamp,
            "userId" => !self.user_id,
            "traits" => !self.traits,
            _ => false,
        }
    }
}

/// Whether a column that holds this text of a value has less than was sent.
fn is_lost(value: Option<Value<'_>>, text: Option<&str>, bytes_max: usize) -> bool {
    match text {
        Some(text) => text.len() > bytes_max,
        None => !matches!(value, None | Some(Value::Null | Value::String(..))),
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
    name: Option<Value<'a>>,
    category: Option<Value<'a>>,
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
                "name" => &mut fields.name,
                "category" => &mut fields.category,
                _ => continue,
            };
            *slot = Some(value);
        }
        fields
    }
}

/// The event's name that belongs to the call's type, or [`TRACK_TYPE`].
fn kind_of(
    own: Option<Value<'_>>,
    path_type: Option<&'static str>,
    validator: Validator,
) -> Result<&'static str, Rejection> {
    let known = |kind: &str| match kind {
        kind if kind.eq_ignore_ascii_case(TRACK_TYPE) => Some(TRACK_TYPE),
        kind => TYPES.iter().find(|(known, _)| kind.eq_ignore_ascii_case(known)).map(|(_, name)| *name),
    };
    let own = match own {
        Some(Value::String(own, _)) => known(own.trim()),
        _ => None,
    };
    own.or_else(|| path_type.and_then(known)).ok_or_else(|| {
        let message = "type must be one of track, identify, page, screen, group, alias".to_owned();
        validator.reject_field("type", RejectionCode::InvalidType, message)
    })
}

/// The name of a track call.
fn name_of<'a>(
    event: Option<Value<'a>>,
    kept: &mut KeptFields,
    validator: Validator,
) -> Result<Cow<'a, str>, Rejection> {
    let Some(name) = scalar_text(event) else { return validator.name("event", event) };
    Ok(match shortened_name(&name) {
        Some(short) => {
            kept.event = true;
            Cow::Owned(short)
        }
        None => name,
    })
}

/// Sets the identity and the time of a call. A time that cannot be used is kept.
fn identify<'a>(
    builder: &mut EventBuilder<'a>,
    fields: &Fields<'a>,
    kept: &mut KeptFields,
    origin: Origin,
    validator: Validator,
) -> Result<(), Rejection> {
    let id = scalar_text(fields.message_id);
    kept.message_id = is_lost(fields.message_id, id.as_deref(), ID_BYTES_MAX);
    let sent = fields.timestamp.and_then(read_time);
    kept.timestamp = sent.is_none();
    let time = sent.or_else(|| fields.original_timestamp.and_then(read_time));
    builder.identify(origin, validator.index, id, time);
    builder.client_id = builder.client_id.take().map(|id| shortened_id(id, ID_BYTES_MAX));
    match builder.keep_in_bounds(origin, validator.index) {
        Bounds::Inside => {}
        Bounds::TakesReceiveTime => kept.timestamp = true,
        Bounds::Refused { message } => {
            return Err(validator.reject_field("timestamp", RejectionCode::InvalidTimestamp, message));
        }
    }
    Ok(())
}

/// An object in the form it is stored. `[]` is how PHP writes an empty one.
fn object<'a>(
    field: &str,
    value: Option<Value<'a>>,
    validator: Validator,
) -> Result<Option<Cow<'a, [u8]>>, Rejection> {
    match value {
        Some(Value::Array(array)) if array.is_empty() => Ok(Some(Cow::Borrowed(b"{}"))),
        other => validator.object(field, other),
    }
}
