//! Makes an event of a log record, whichever encoding it came in.

use std::borrow::Cow;
use std::collections::HashSet;

use super::any_value::{AnyValue, Attribute, ColumnText, Fault, Room};
use super::identity::Identities;
use super::level::{Levels, subject_rank};
use crate::dialect::bounds::Bounds;
use crate::dialect::builder::EventBuilder;
use crate::dialect::call::{LIBRARY, ObjectWriter, push_member, push_string, shortened_id, shortened_name};
use crate::dialect::validator::{Validator, without_nul};
use crate::event::{ID_BYTES_MAX, Origin, Rejection, RejectionCode, SUBJECT_BYTES_MAX};
use crate::json::Value;

/// The member of the context for everything that has no other place.
const FAMILY: &str = "otel";
/// The name of a record that has none.
const DEFAULT_NAME: &str = "$log";
/// The property for a body that is not an object.
const MESSAGE: &str = "message";
const BODY: &str = "body";
const EVENT_NAME: &str = "event.name";
const RECORD_UID: &str = "log.record.uid";
/// The attributes for the address of a client, in the order in which they count. The second one is the older
/// name of the first. Those for the other end of a connection, such as `network.peer.address`, are not among
/// them: in the log of a client, they name a server.
const ADDRESSES: [&str; 3] = ["client.address", "http.client_ip", "source.address"];
/// Members of `context.otel` that the levels have.
const OF_LEVELS: [&str; 4] = ["resource", "resourceLogs", "scope", "scopeLogs"];

/// A log record as a reader found it.
pub(super) struct LogRecord<'a> {
    /// In nanoseconds since 1970; `None` for 0.
    pub time_ns: Option<u64>,
    /// The same. It is also in `rest`.
    pub observed_ns: Option<u64>,
    pub event_name: Option<Cow<'a, str>>,
    pub attributes: Vec<Attribute<'a>>,
    pub body: AnyValue<'a>,
    /// Everything else, for `context.otel`.
    pub rest: ObjectWriter<'a>,
    pub room: Room,
}

impl Default for LogRecord<'_> {
    fn default() -> Self {
        Self {
            time_ns: None,
            observed_ns: None,
            event_name: None,
            attributes: Vec::new(),
            body: AnyValue::Nothing,
            rest: ObjectWriter::default(),
            room: Room::default(),
        }
    }
}

impl<'a> LogRecord<'a> {
    /// Keeps a member that has no other place, under a name that no level has.
    pub(super) fn keep(&mut self, name: &'a str, json: &[u8]) {
        if OF_LEVELS.contains(&name) {
            self.rest.add(format!("${name}"), json);
        } else {
            self.rest.add(without_nul(name), json);
        }
    }

    /// The event.
    ///
    /// # Errors
    /// The rejection of a value that cannot be stored, or of a time outside of the project's bounds.
    pub(super) fn into_event(
        mut self,
        levels: &Levels<'_>,
        identities: &mut Identities,
        (index, origin): (usize, Origin),
    ) -> Result<EventBuilder<'a>, Rejection> {
        let places = Places::of(&self);
        if let Some(name) = self.event_name.take().filter(|_| places.is_name_short) {
            let mut json = Vec::new();
            push_string(&mut json, &name);
            self.rest.add("eventName", &json);
        }
        let address = address(&self.attributes);
        let properties = self.properties(&places).map_err(|fault| fault.rejection(index))?;
        let Places { name, uid, subject, .. } = places;
        let mut builder = EventBuilder::new(name.unwrap_or(Cow::Borrowed(DEFAULT_NAME)));
        let subject = subject.or_else(|| levels.resource.subject.clone().map(Cow::Owned));
        builder.subject = subject.map(|id| shortened_id(id, SUBJECT_BYTES_MAX));
        builder.properties = properties.map(Cow::Owned);
        builder.address = address.map(Cow::Owned);
        let time_us = self.time_us();
        if let Some(uid) = uid {
            builder.identify(origin, index, Some(uid), time_us);
            builder.client_id = builder.client_id.take().map(|id| shortened_id(id, ID_BYTES_MAX));
        } else {
            // A change of what is stored changes the identity: records that are sent again across an upgrade
            // would then be stored twice. The address is no part of it: a reader of the other values of a row
            // could try all addresses until one has this digest.
            let event_id = identities.next(&[
                b"log record",
                levels.identity.as_bytes(),
                &self.time_ns.unwrap_or_default().to_be_bytes(),
                builder.name.as_bytes(),
                builder.subject.as_deref().unwrap_or_default().as_bytes(),
                builder.properties.as_deref().unwrap_or_default(),
                self.rest.text(),
            ]);
            builder.identify_by_content(origin, event_id, time_us);
        }
        match builder.keep_in_bounds(origin, index) {
            Bounds::Inside => {}
            Bounds::TakesReceiveTime => self.keep_time(),
            Bounds::Refused { message } => {
                let code = RejectionCode::InvalidTimestamp;
                return Err(Validator { index }.reject_field("timeUnixNano", code, message));
            }
        }
        builder.context = context(levels, self.rest.finish()).map(Cow::Owned);
        Ok(builder)
    }

    fn time_us(&self) -> Option<i64> {
        self.time_ns.or(self.observed_ns).and_then(|ns| i64::try_from(ns / 1_000).ok())
    }

    /// Keeps the time that the event does not have.
    fn keep_time(&mut self) {
        if let Some(ns) = self.time_ns {
            self.rest.add("timeUnixNano", itoa::Buffer::new().format(ns).as_bytes());
        }
    }

    /// The attributes that have no place of their own, and the body.
    fn properties(&mut self, places: &Places<'_>) -> Result<Option<Vec<u8>>, Fault> {
        let Self { attributes, body, rest, room, .. } = self;
        let mut object = ObjectWriter::default();
        if !matches!(body, AnyValue::Nothing) {
            let keys = Keys::of(attributes);
            match body.members(room)? {
                Some(members) => {
                    let mut left = ObjectWriter::default();
                    for Attribute { key, value } in members {
                        let target = if keys.contains(&key) { &mut left } else { &mut object };
                        target.add_with(key, |out| value.write(out, room, 1))?;
                    }
                    if let Some(left) = left.finish() {
                        rest.add(BODY, &left);
                    }
                }
                None if keys.contains(MESSAGE) => rest.add_with(BODY, |out| body.write(out, room, 2))?,
                None => object.add_with(MESSAGE, |out| body.write(out, room, 1))?,
            }
        }
        for (index, Attribute { key, value }) in attributes.drain(..).enumerate() {
            if !places.noted.contains(&Some(index)) && !is_address(&key, &value) {
                object.add_with(key, |out| value.write(out, room, 1))?;
            }
        }
        Ok(object.finish())
    }
}

/// Whether an attribute has the client's address, which is stored in its own place or not at all. What is no
/// text is a value like any other.
fn is_address(key: &str, value: &AnyValue<'_>) -> bool {
    (key.ends_with("address") || key.ends_with("_ip"))
        && ADDRESSES.contains(&key)
        && matches!(value, AnyValue::Text(_) | AnyValue::Nothing | AnyValue::Json(Value::String(..)))
}

/// The client's address as JSON: the first of its attributes that has a text, and of equal keys the last.
fn address(attributes: &[Attribute<'_>]) -> Option<Vec<u8>> {
    let named = |name: &&str| {
        let has_name =
            |attribute: &&Attribute<'_>| attribute.key == **name && is_address(name, &attribute.value);
        attributes.iter().rfind(has_name)?.value.column_text()
    };
    if !attributes.iter().any(|attribute| is_address(&attribute.key, &attribute.value)) {
        return None;
    }
    let ColumnText { text, .. } = ADDRESSES.iter().find_map(named)?;
    let mut json = Vec::new();
    push_string(&mut json, &text);
    Some(json)
}

/// The keys of some attributes, for several searches.
enum Keys<'k, 'a> {
    Few(&'k [Attribute<'a>]),
    Many(HashSet<&'k str>),
}

impl<'k, 'a> Keys<'k, 'a> {
    fn of(attributes: &'k [Attribute<'a>]) -> Self {
        if attributes.len() <= 16 {
            return Self::Few(attributes);
        }
        Self::Many(attributes.iter().map(|attribute| &*attribute.key).collect())
    }

    fn contains(&self, key: &str) -> bool {
        match self {
            Self::Few(attributes) => attributes.iter().any(|attribute| attribute.key == key),
            Self::Many(keys) => keys.contains(key),
        }
    }
}

/// The columns that come from attributes, and the indexes of attributes of which a column has everything.
struct Places<'a> {
    name: Option<Cow<'a, str>>,
    uid: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    noted: [Option<usize>; 3],
    /// Whether the name is not all of `eventName`.
    is_name_short: bool,
}

impl<'a> Places<'a> {
    fn of(record: &LogRecord<'a>) -> Self {
        let mut places =
            Self { name: None, uid: None, subject: None, noted: [None; 3], is_name_short: false };
        let mut best = usize::MAX;
        for (index, Attribute { key, value }) in record.attributes.iter().enumerate() {
            let whole = |is_whole: bool| is_whole.then_some(index);
            match &**key {
                EVENT_NAME if record.event_name.is_none() => {
                    let Some(ColumnText { text, is_whole }) = value.column_text() else { continue };
                    let short = shortened_name(&text);
                    places.noted[0] = whole(is_whole && short.is_none());
                    places.name = Some(short.map_or(text, Cow::Owned));
                }
                RECORD_UID => {
                    let Some(ColumnText { text, is_whole }) = value.column_text() else { continue };
                    places.noted[1] = whole(is_whole && text.len() <= ID_BYTES_MAX);
                    places.uid = Some(text);
                }
                key => {
                    let Some(rank) = subject_rank(key).filter(|rank| *rank <= best) else { continue };
                    let Some(ColumnText { text, is_whole }) = value.column_text() else { continue };
                    best = rank;
                    places.noted[2] = whole(is_whole && text.len() <= SUBJECT_BYTES_MAX);
                    places.subject = Some(text);
                }
            }
        }
        if let Some(name) = &record.event_name {
            let short = shortened_name(name);
            places.is_name_short = short.is_some();
            places.name = Some(short.map_or_else(|| name.clone(), Cow::Owned));
        }
        places
    }
}

fn context(levels: &Levels<'_>, rest: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let Levels { resource, scope, .. } = levels;
    let mut context = Vec::with_capacity(
        resource.context.len() + scope.context.len() + rest.as_ref().map_or(0, Vec::len) + 128,
    );
    if let Some(library) = resource.library.as_ref().or(scope.library.as_ref()) {
        push_member(&mut context, LIBRARY, library);
    }
    let rest = rest.as_ref().map_or(&b""[..], |rest| &rest[1..rest.len() - 1]);
    let parts = [&resource.context[..], &scope.context[..], rest];
    if parts.iter().any(|part| !part.is_empty()) {
        push_member(&mut context, FAMILY, b"");
        let mut next = b'{';
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            context.push(next);
            context.extend_from_slice(part);
            next = b',';
        }
        context.push(b'}');
    }
    if context.is_empty() {
        return None;
    }
    context.push(b'}');
    Some(context)
}
