//! The only validator: turns JSON values into columns of an event, or rejects the event with a reason.
//!
//! PostgreSQL stores every accepted value and returns it unchanged. A dialect must never bypass the
//! validator.

use std::borrow::Cow;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::event::{
    DEPTH_MAX, EVENT_TIMES_US, EXPONENTS_SUM_MAX, NAME_CHARS_MAX, NUMBER_DIGITS_MAX, NUMBER_EXPONENT_MAX,
    NUMBER_LENGTH_MAX, Rejection, RejectionCode,
};
use crate::json::{Unstorable, Value};

/// Longest part of a client's field name that is repeated in an answer, in characters.
const SHOWN_CHARS_MAX: usize = 40;

/// Validates the fields of the event at one index of a request.
#[derive(Clone, Copy)]
pub struct Validator {
    pub index: usize,
}

impl Validator {
    /// A rejection that no single field causes.
    pub fn reject(self, code: RejectionCode, message: String) -> Rejection {
        Rejection { index: self.index, code, field: None, message }
    }

    pub fn reject_field(self, field: &str, code: RejectionCode, message: String) -> Rejection {
        Rejection { index: self.index, code, field: Some(Cow::Owned(field.to_owned())), message }
    }

    /// The rejection of a field that the dialect does not define.
    pub fn unknown_field(self, name: &str) -> Rejection {
        let shown: String = name.chars().take(SHOWN_CHARS_MAX).collect();
        let message = "unknown field; put custom data into properties".to_owned();
        self.reject_field(&shown, RejectionCode::UnknownField, message)
    }

    fn wrong_type(self, field: &str, expected: &str, found: Value<'_>) -> Rejection {
        let message = format!("{field} must be {expected}, not {}", found.kind());
        self.reject_field(field, RejectionCode::InvalidType, message)
    }

    /// The rejection of valid JSON that PostgreSQL cannot store.
    pub fn unstorable(self, field: Option<&str>, what: Unstorable) -> Rejection {
        let (code, message) = match what {
            Unstorable::LoneSurrogate => (
                RejectionCode::InvalidString,
                "a \\u escape is half of a surrogate pair; send both halves or neither".to_owned(),
            ),
            Unstorable::Number => (
                RejectionCode::InvalidNumber,
                format!(
                    "a number is beyond the range of a double (±1.7976931348623157e308), has more than \
                     {NUMBER_DIGITS_MAX} digits ({NUMBER_LENGTH_MAX} with the zeros at its ends) or an exponent \
                     beyond ±{NUMBER_EXPONENT_MAX}, or the exponents of an object add up to more than \
                     {EXPONENTS_SUM_MAX}; send such numbers as strings"
                ),
            ),
            Unstorable::Depth => (
                RejectionCode::TooDeep,
                format!("a value is nested deeper than {DEPTH_MAX} levels; flatten it"),
            ),
        };
        match field {
            Some(field) => self.reject_field(field, code, message),
            None => self.reject(code, message),
        }
    }

    /// The event's name, from the field that holds it: a string of 1 to [`NAME_CHARS_MAX`] characters.
    ///
    /// # Errors
    /// The rejection of an invalid or missing name.
    pub fn name<'a>(self, field: &str, value: Option<Value<'a>>) -> Result<Cow<'a, str>, Rejection> {
        let name = match value {
            Some(Value::String(name, _)) => without_nul(name),
            None | Some(Value::Null) => {
                let message = format!("{field} is required");
                return Err(self.reject_field(field, RejectionCode::MissingField, message));
            }
            Some(other) => return Err(self.wrong_type(field, "a string", other)),
        };
        // A text within the limit in bytes is within it in characters, and needs no count.
        let too_long = name.len() > NAME_CHARS_MAX && name.chars().count() > NAME_CHARS_MAX;
        if name.is_empty() || too_long {
            let message = format!("{field} must have 1 to {NAME_CHARS_MAX} characters");
            return Err(self.reject_field(field, RejectionCode::InvalidLength, message));
        }
        Ok(name)
    }

    /// An optional string of 1 to `bytes_max` bytes.
    ///
    /// # Errors
    /// The rejection of an invalid value.
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
            return Err(self.reject_field(field, RejectionCode::InvalidLength, message));
        }
        Ok(Some(text))
    }

    /// An optional RFC 3339 time, as microseconds since 1970, in [`EVENT_TIMES_US`]. Digits after the sixth
    /// are cut off. A leap second is the last microsecond before it.
    ///
    /// # Errors
    /// The rejection of an invalid value.
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
            self.reject_field(field, RejectionCode::InvalidTimestamp, message)
        })?;
        let us = i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000)).expect("four-digit years fit");
        if EVENT_TIMES_US.contains(&us) {
            return Ok(Some(us));
        }
        let message = format!("{field} must be in the years 1 to 9999 in UTC");
        Err(self.reject_field(field, RejectionCode::InvalidTimestamp, message))
    }

    /// An optional JSON object, in the form it is stored.
    ///
    /// # Errors
    /// The rejection of an invalid value.
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

/// Replaces U+0000, which PostgreSQL cannot store, by U+FFFD.
pub fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{FFFD}")) } else { Cow::Borrowed(text) }
}
