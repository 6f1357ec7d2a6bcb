//! What every dialect needs to turn JSON values into the columns of an event, and to say what is wrong with them.
//! "Accepted means storable" is enforced here and nowhere else.

use std::borrow::Cow;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::event::{
    DEPTH_MAX, EXPONENTS_SUM_MAX, NAME_CHARS_MAX, NUMBER_DIGITS_MAX, NUMBER_EXPONENT_MAX, Origin, Rejection,
    RejectionCode, uuid_of_client_id, uuid_of_place,
};
use crate::json::{Unstorable, Value};
use crate::row::{EventTime, Row};

/// Longest part of a client's own text that is repeated in a message, in characters.
const SHOWN_CHARS_MAX: usize = 40;
/// Length of a UUID with hyphens, the one form of it that is recognised.
const UUID_CHARS: usize = 36;

/// One event on its way to a row.
pub struct EventReader<'a> {
    /// What happened.
    pub name: Cow<'a, str>,
    /// Who it happened to.
    pub subject: Option<Cow<'a, str>>,
    /// A JSON object.
    pub properties: Option<Cow<'a, [u8]>>,
    /// A JSON object.
    pub context: Option<Cow<'a, [u8]>>,
    event_id: Uuid,
    client_id: Option<Cow<'a, str>>,
    time: EventTime,
}

impl<'a> EventReader<'a> {
    /// An event with a name and nothing else. [`EventReader::identify`] must follow.
    pub fn new(name: Cow<'a, str>) -> Self {
        Self {
            name,
            subject: None,
            properties: None,
            context: None,
            event_id: Uuid::nil(),
            client_id: None,
            time: EventTime::Anonymous,
        }
    }

    /// Gives the event its identity: the client's id when there is one, its place in the batch otherwise; the client's
    /// time when there is one, the time in a UUIDv7 otherwise, the receive time as the last resort.
    pub fn identify(
        &mut self,
        origin: Origin,
        index: usize,
        id: Option<Cow<'a, str>>,
        timestamp_us: Option<i64>,
    ) {
        let Some(id) = id else {
            self.event_id = uuid_of_place(origin.batch_id, index);
            self.time = timestamp_us.map_or(EventTime::Anonymous, EventTime::At);
            return;
        };
        let uuid = (id.len() == UUID_CHARS).then(|| Uuid::try_parse(&id).ok()).flatten();
        self.event_id = uuid.unwrap_or_else(|| uuid_of_client_id(&id));
        self.time = match timestamp_us.or_else(|| uuid.and_then(time_of_uuid)) {
            Some(us) => EventTime::At(us),
            None => EventTime::Undated,
        };
        self.client_id = uuid.is_none().then_some(id);
    }

    /// Appends the event's row.
    pub fn write(&self, origin: Origin, rows: &mut Vec<u8>) {
        let row = Row {
            project: origin.project,
            time: self.time,
            event_id: self.event_id,
            name: &self.name,
            subject: self.subject.as_deref(),
            client_id: self.client_id.as_deref(),
            properties: self.properties.as_deref(),
            context: self.context.as_deref(),
        };
        row.write(rows);
    }
}

/// Microseconds since 1970 in a UUIDv7 (RFC 9562, section 5.7).
fn time_of_uuid(uuid: Uuid) -> Option<i64> {
    if uuid.get_version_num() != 7 {
        return None;
    }
    let (seconds, nanos) = uuid.get_timestamp()?.to_unix();
    Some(i64::try_from(seconds).ok()? * 1_000_000 + i64::from(nanos / 1_000))
}

/// Reads the fields of the event at one index.
#[derive(Clone, Copy)]
pub struct Reading {
    /// The event's place in the request.
    pub index: usize,
}

impl Reading {
    /// A rejection of the whole event.
    pub fn event(self, code: RejectionCode, message: String) -> Rejection {
        Rejection { index: self.index, code, field: None, message }
    }

    /// A rejection because of one field.
    pub fn field(self, field: &str, code: RejectionCode, message: String) -> Rejection {
        Rejection { index: self.index, code, field: Some(Cow::Owned(field.to_owned())), message }
    }

    /// A field that the dialect does not have.
    pub fn unknown_field(self, name: &str) -> Rejection {
        let shown: String = name.chars().take(SHOWN_CHARS_MAX).collect();
        let message = "not a field of an event; its own data belongs into properties".to_owned();
        self.field(&shown, RejectionCode::UnknownField, message)
    }

    fn wrong_type(self, field: &str, expected: &str, found: Value<'_>) -> Rejection {
        let message = format!("{field} must be {expected}, not {}", found.kind());
        self.field(field, RejectionCode::InvalidType, message)
    }

    /// What is wrong with JSON that cannot be stored.
    pub fn unstorable(self, field: Option<&str>, what: Unstorable) -> Rejection {
        let (code, message) = match what {
            Unstorable::LoneSurrogate => (
                RejectionCode::InvalidString,
                "a \\u escape is half of a surrogate pair; send both halves or neither".to_owned(),
            ),
            Unstorable::Number => (
                RejectionCode::InvalidNumber,
                format!(
                    "a number has more than {NUMBER_DIGITS_MAX} digits or an exponent beyond ±{NUMBER_EXPONENT_MAX}, \
                     or the exponents add up to more than {EXPONENTS_SUM_MAX}; send such numbers as strings"
                ),
            ),
            Unstorable::Depth => {
                (RejectionCode::TooDeep, format!("nested deeper than {DEPTH_MAX} levels; flatten it"))
            }
        };
        match field {
            Some(field) => self.field(field, code, message),
            None => self.event(code, message),
        }
    }

    /// The name: a string of 1 to [`NAME_CHARS_MAX`] characters.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn name<'a>(self, value: Option<Value<'a>>) -> Result<Cow<'a, str>, Rejection> {
        let name = match value {
            Some(Value::String(name, _)) => without_nul(name),
            None | Some(Value::Null) => {
                return Err(self.field(
                    "name",
                    RejectionCode::MissingField,
                    "an event needs a name".to_owned(),
                ));
            }
            Some(other) => return Err(self.wrong_type("name", "a string", other)),
        };
        // Characters are counted only where bytes leave a doubt.
        let too_long = name.len() > NAME_CHARS_MAX && name.chars().count() > NAME_CHARS_MAX;
        if name.is_empty() || too_long {
            let message = format!("name must have 1 to {NAME_CHARS_MAX} characters");
            return Err(self.field("name", RejectionCode::InvalidLength, message));
        }
        Ok(name)
    }

    /// An optional string of 1 to `bytes_max` bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn text<'a>(
        self,
        field: &str,
        value: Option<Value<'a>>,
        bytes_max: usize,
    ) -> Result<Option<Cow<'a, str>>, Rejection> {
        let text = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text, _)) => without_nul(text),
            Some(other) => return Err(self.wrong_type(field, "a string", other)),
        };
        if text.is_empty() || text.len() > bytes_max {
            let message = format!("{field} must have 1 to {bytes_max} bytes, or be left out");
            return Err(self.field(field, RejectionCode::InvalidLength, message));
        }
        Ok(Some(text))
    }

    /// An optional RFC 3339 time, as microseconds since 1970; finer digits are cut off.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn timestamp(self, field: &str, value: Option<Value<'_>>) -> Result<Option<i64>, Rejection> {
        let text = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text, _)) => text,
            Some(other) => {
                let expected = "an RFC 3339 string such as 2026-11-21T09:30:00Z";
                return Err(self.wrong_type(field, expected, other));
            }
        };
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            let message = format!(
                "{field} must be an RFC 3339 time with a time zone, such as 2026-11-21T09:30:00.123Z"
            );
            self.field(field, RejectionCode::InvalidTimestamp, message)
        })?;
        let us = time.unix_timestamp_nanos().div_euclid(1_000);
        Ok(Some(i64::try_from(us).expect("four-digit years fit")))
    }

    /// An optional object, as it can be stored.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn object<'a>(
        self,
        field: &str,
        value: Option<Value<'a>>,
    ) -> Result<Option<Cow<'a, [u8]>>, Rejection> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(object @ Value::Object(_)) => {
                object.storable().map(Some).map_err(|what| self.unstorable(Some(field), what))
            }
            Some(other) => Err(self.wrong_type(field, "an object", other)),
        }
    }
}

/// U+0000 becomes U+FFFD, as everywhere.
pub fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{FFFD}")) } else { Cow::Borrowed(text) }
}
