//! The values of OTLP: read where they lie in the body, in either encoding, and written as the JSON that is
//! stored.
//!
//! | OTLP | JSON |
//! |---|---|
//! | string, boolean | the same |
//! | int64, also as a JSON string | a number with all digits |
//! | double | a number; `"NaN"`, `"Infinity"` and `"-Infinity"` are texts |
//! | bytes | base64 |
//! | array, list of keys and values | an array, an object |
//! | no value | `null` |
//! | JSON that is none of these | the same JSON |

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::wire::{Field, Fields, Malformed, short_pair};
use crate::dialect::call::{ObjectWriter, push_string};
use crate::dialect::validator::{Validator, without_nul};
use crate::event::{DEPTH_MAX, EXPONENTS_SUM_MAX, Rejection, RejectionCode};
use crate::json::{Container, Unstorable, Value, check_number};

/// The most values in one record, resource or scope, at all depths. An empty value takes two bytes in
/// protobuf, and many more in memory.
pub(super) const VALUES_MAX: u32 = 100_000;

/// Why no event can be made of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Malformed,
    Unstorable(Unstorable),
    TooManyValues,
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<Unstorable> for Fault {
    fn from(what: Unstorable) -> Self {
        Self::Unstorable(what)
    }
}

impl Fault {
    pub(super) fn rejection(self, index: usize) -> Rejection {
        let validator = Validator { index };
        match self {
            Self::Unstorable(what) => validator.unstorable(None, what),
            Self::Malformed => {
                let message = "the log record is cut off, or is not the protobuf message LogRecord";
                validator.reject(RejectionCode::InvalidEvent, message.to_owned())
            }
            Self::TooManyValues => {
                let message =
                    format!("the log record has more than {VALUES_MAX} values; send fewer attributes");
                validator.reject(RejectionCode::InvalidLength, message)
            }
        }
    }
}

/// What is left of the limits of one record.
pub(super) struct Room {
    values: u32,
    exponents: u32,
}

impl Default for Room {
    fn default() -> Self {
        Self { values: VALUES_MAX, exponents: 0 }
    }
}

impl Room {
    /// Counts a value.
    pub(super) fn take(&mut self) -> Result<(), Fault> {
        self.values = self.values.checked_sub(1).ok_or(Fault::TooManyValues)?;
        Ok(())
    }

    /// JSON as it is stored.
    pub(super) fn storable<'a>(&mut self, value: Value<'a>) -> Result<Cow<'a, [u8]>, Fault> {
        let json = value.storable_counted(&mut self.exponents)?;
        self.check_exponents()?;
        Ok(json)
    }

    fn number(&mut self, number: &[u8]) -> Result<(), Fault> {
        self.exponents += check_number(number)?;
        self.check_exponents()
    }

    fn check_exponents(&self) -> Result<(), Fault> {
        if self.exponents > EXPONENTS_SUM_MAX { Err(Unstorable::Number.into()) } else { Ok(()) }
    }
}

/// A value in a body. Lists are read when they are written.
#[derive(Clone, Default)]
pub(super) enum AnyValue<'a> {
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Bool(bool),
    Integer(i64),
    Double(f64),
    Bytes(&'a [u8]),
    /// JSON that is stored as it is: a string, a number, or what OTLP does not define.
    Json(Value<'a>),
    JsonArray(Container<'a>),
    /// Elements `{"key":…, "value":…}`.
    JsonMembers(Container<'a>),
    /// The message `ArrayValue`.
    WireArray(&'a [u8]),
    /// The message `KeyValueList`.
    WireMembers(&'a [u8]),
}

/// A key and its value.
pub(super) struct Attribute<'a> {
    pub key: Cow<'a, str>,
    pub value: AnyValue<'a>,
}

/// A value as a text for a column.
pub(super) struct ColumnText<'a> {
    pub text: Cow<'a, str>,
    /// Whether it was a text, so that the column has all of it.
    pub is_whole: bool,
}

impl<'a> AnyValue<'a> {
    /// A value in JSON: an object with one member, whose name is the kind. Anything else is kept as it is.
    pub(super) fn of_json(value: Value<'a>) -> Self {
        let Value::Object(object) = value else {
            return if matches!(value, Value::Null) { Self::Nothing } else { Self::Json(value) };
        };
        let mut members = object.members().filter(|(_, inner)| !matches!(inner, Value::Null));
        let Some((kind, inner)) = members.next() else { return Self::Nothing };
        if members.next().is_some() {
            return Self::Json(value);
        }
        Self::of_json_kind(kind, inner).unwrap_or(Self::Json(value))
    }

    fn of_json_kind(kind: &str, value: Value<'a>) -> Option<Self> {
        Some(match (kind, value) {
            ("stringValue" | "string_value" | "bytesValue" | "bytes_value", Value::String(..)) => {
                Self::Json(value)
            }
            ("boolValue" | "bool_value", Value::Bool(_)) => Self::Json(value),
            ("intValue" | "int_value" | "doubleValue" | "double_value", Value::Number(_)) => {
                Self::Json(value)
            }
            ("intValue" | "int_value", Value::String(text, _)) => {
                text.parse().map_or(Self::Json(value), Self::Integer)
            }
            // `NaN` and its like stay a string.
            ("doubleValue" | "double_value", Value::String(text, _)) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Self::Double(number),
                _ => Self::Json(value),
            },
            ("arrayValue" | "array_value", Value::Object(list)) => Self::JsonArray(json_list(list)?),
            ("kvlistValue" | "kvlist_value", Value::Object(list)) => {
                let members = json_list(list)?;
                members.elements().all(|member| is_attribute(member)).then_some(Self::JsonMembers(members))?
            }
            _ => return None,
        })
    }

    /// The message `AnyValue`, of whose fields only one should be there. The last one counts.
    #[inline(always)]
    pub(super) fn of_wire(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut last = None;
        for field in Fields::of(message) {
            let field = field?;
            if let (1..=7, _) = field {
                last = Some(field);
            }
        }
        Ok(match last {
            None => Self::Nothing,
            Some((1, text)) => Self::Text(text.text()?),
            Some((2, number)) => Self::Bool(number.varint()? != 0),
            Some((3, number)) => Self::Integer(number.varint()?.cast_signed()),
            Some((4, bits)) => Self::Double(f64::from_bits(bits.fixed64()?)),
            Some((5, list)) => Self::WireArray(list.bytes()?),
            Some((6, list)) => Self::WireMembers(list.bytes()?),
            Some((_, bytes)) => Self::Bytes(bytes.bytes()?),
        })
    }

    /// A text that is not empty, a number or a boolean, as text.
    pub(super) fn column_text(&self) -> Option<ColumnText<'a>> {
        let (text, is_whole) = match self {
            Self::Text(text) => (text.clone(), true),
            Self::Json(Value::String(text, _)) => (Cow::Borrowed(*text), true),
            Self::Json(Value::Number(bytes) | Value::Bool(bytes)) => (String::from_utf8_lossy(bytes), false),
            Self::Integer(number) => (number.to_string().into(), false),
            Self::Bool(is_true) => (is_true.to_string().into(), false),
            _ => return None,
        };
        (!text.is_empty()).then(|| ColumnText { text: storable_text(text), is_whole })
    }

    /// The members of a list of keys and values. `None` for any other value.
    pub(super) fn members(&self, room: &mut Room) -> Result<Option<Vec<Attribute<'a>>>, Fault> {
        let mut members = Vec::new();
        match self {
            Self::JsonMembers(list) => {
                members.reserve(list.len().min(RESERVED_MAX));
                for element in list.elements() {
                    room.take()?;
                    members.extend(Attribute::of_json(element));
                }
            }
            Self::WireMembers(list) => {
                for field in Fields::of(list) {
                    if let (1, member) = field? {
                        room.take()?;
                        members.push(Attribute::of_wire(member.bytes()?)?);
                    }
                }
            }
            _ => return Ok(None),
        }
        Ok(Some(members))
    }

    /// Appends the value as JSON. `depth` is that of the object or array around it.
    pub(super) fn write(&self, out: &mut Vec<u8>, room: &mut Room, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Unstorable::Depth.into());
        }
        match self {
            Self::Nothing => out.extend_from_slice(b"null"),
            Self::Text(text) => push_string(out, text),
            Self::Bool(is_true) => out.extend_from_slice(if *is_true { b"true" } else { b"false" }),
            Self::Integer(number) => {
                out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
            }
            Self::Double(number) => write_double(*number, out, room)?,
            Self::Bytes(bytes) => {
                out.push(b'"');
                out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
                out.push(b'"');
            }
            Self::Json(value) => out.extend_from_slice(&room.storable(*value)?),
            Self::JsonArray(list) => {
                let elements = list.elements().map(|element| Ok(Self::of_json(element)));
                write_array(elements, out, room, depth)?;
            }
            Self::WireArray(list) => {
                let element = |field: Result<(u32, Field<'a>), Malformed>| match field {
                    Ok((1, element)) => Some(element.bytes().and_then(Self::of_wire)),
                    Ok(_) => None,
                    Err(malformed) => Some(Err(malformed)),
                };
                write_array(Fields::of(list).filter_map(element), out, room, depth)?;
            }
            Self::JsonMembers(_) | Self::WireMembers(_) => {
                let mut object = ObjectWriter::default();
                for Attribute { key, value } in self.members(room)?.unwrap_or_default() {
                    object.add_with(key, |out| value.write(out, room, depth + 1))?;
                }
                out.extend_from_slice(object.finish().as_deref().unwrap_or(b"{}"));
            }
        }
        Ok(())
    }
}

/// The most attributes for which memory is taken before they are read.
const RESERVED_MAX: usize = 64;

impl<'a> Attribute<'a> {
    /// An element of an array of attributes in JSON. `None` for anything else.
    pub(super) fn of_json(value: Value<'a>) -> Option<Self> {
        let Value::Object(object) = value else { return None };
        let (mut key, mut value) = (None, AnyValue::Nothing);
        for (name, member) in object.members() {
            match (name, member) {
                ("key", Value::String(text, _)) => key = Some(text),
                ("value", member) => value = AnyValue::of_json(member),
                _ => {}
            }
        }
        Some(Self { key: without_nul(key?), value })
    }

    /// The message `KeyValue`.
    #[inline(always)]
    pub(super) fn of_wire(message: &'a [u8]) -> Result<Self, Malformed> {
        let (mut key, mut value) = (Field::Bytes(b""), &b""[..]);
        if let Some((short_key, short_value)) = short_pair(message) {
            (key, value) = (Field::Bytes(short_key), short_value);
        } else {
            for field in Fields::of(message) {
                match field? {
                    (1, field) => key = field,
                    (2, field) => value = field.bytes()?,
                    _ => {}
                }
            }
        }
        Ok(Self { key: storable_text(key.text()?), value: AnyValue::of_wire(value)? })
    }

    /// A list of attributes in JSON: those that are attributes, and whether all are.
    pub(super) fn all_of_json(list: Container<'a>, room: &mut Room) -> Result<(Vec<Self>, bool), Fault> {
        let mut attributes = Vec::with_capacity(list.len().min(RESERVED_MAX));
        for element in list.elements() {
            room.take()?;
            attributes.extend(Self::of_json(element));
        }
        let are_all = attributes.len() == list.len();
        Ok((attributes, are_all))
    }
}

fn is_attribute(value: Value<'_>) -> bool {
    matches!(value, Value::Object(object) if matches!(object.member("key"), Some(Value::String(..))))
}

/// The elements of `{"values":[…]}`, or of an empty object. `None` for any other object.
fn json_list(list: Container<'_>) -> Option<Container<'_>> {
    match list.members().last() {
        None => Some(list),
        Some(("values", Value::Array(values))) => Some(values),
        Some(_) => None,
    }
}

/// A text without U+0000.
pub(super) fn storable_text(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => without_nul(text),
        Cow::Owned(text) => Cow::Owned(without_nul(&text).into_owned()),
    }
}

fn write_array<'a>(
    elements: impl Iterator<Item = Result<AnyValue<'a>, Malformed>>,
    out: &mut Vec<u8>,
    room: &mut Room,
    depth: usize,
) -> Result<(), Fault> {
    out.push(b'[');
    for (index, element) in elements.enumerate() {
        room.take()?;
        if index > 0 {
            out.push(b',');
        }
        element?.write(out, room, depth + 1)?;
    }
    out.push(b']');
    Ok(())
}

fn write_double(number: f64, out: &mut Vec<u8>, room: &mut Room) -> Result<(), Fault> {
    if !number.is_finite() {
        let name = match number {
            f64::INFINITY => "\"Infinity\"",
            f64::NEG_INFINITY => "\"-Infinity\"",
            _ => "\"NaN\"",
        };
        out.extend_from_slice(name.as_bytes());
        return Ok(());
    }
    let start = out.len();
    serde_json::to_writer(&mut *out, &number).expect("a finite number is JSON, and memory takes it");
    room.number(&out[start..])
}
