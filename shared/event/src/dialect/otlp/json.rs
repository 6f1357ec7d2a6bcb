//! Reads OTLP in JSON. Names are in lowerCamelCase, as the specification says. Those of the definitions in
//! protobuf are read as well: ignoring them would lose a whole body.
//!
//! A body that the parser refuses is taken apart, so that one broken record does not affect the others.

use std::borrow::Cow;

use super::any_value::{AnyValue, Attribute, Fault, Room, storable_text};
use super::identity::Identities;
use super::level::{Level, LevelParts, Levels};
use super::record::LogRecord;
use crate::dialect::call::is_empty;
use crate::dialect::sink::{BodyError, EventSink};
use crate::dialect::tolerant;
use crate::dialect::validator::{Validator, without_nul};
use crate::event::{Rejection, RejectionCode};
use crate::json::{self, Container, Elements, Value};

pub(super) const EXPECTED: &str =
    r#"{"resourceLogs": [{"resource": ..., "scopeLogs": [{"scope": ..., "logRecords": [...]}]}]}"#;

/// The names of the nested lists, each also in the spelling of protobuf.
const RESOURCE_LOGS: [&str; 2] = ["resourceLogs", "resource_logs"];
const SCOPE_LOGS: [&str; 2] = ["scopeLogs", "scope_logs"];
const LOG_RECORDS: [&str; 2] = ["logRecords", "log_records"];

/// The levels of a whole body around a record: a record is parsed as deep when it is parsed alone.
const WRAP: (&[u8], &[u8]) = (b"[[[[[[", b"]]]]]]");

/// Reads a whole body.
///
/// # Errors
/// [`BodyError::InvalidJson`], and those of [`EventSink::add`].
pub(super) fn read(body: &[u8], sink: &mut EventSink) -> Result<(), BodyError> {
    let mut reader = Reader { sink, identities: Identities::default() };
    let whole = json::parse_nested(body, |parsed| parsed.map(|document| reader.read_root(document.root())));
    whole.unwrap_or_else(|fault| reader.read_refused(body, &fault))
}

struct Reader<'s> {
    sink: &'s mut EventSink,
    identities: Identities,
}

impl Reader<'_> {
    fn read_root(&mut self, root: Value<'_>) -> Result<(), BodyError> {
        let Value::Object(root) = root else { return Err(wrong_form("the body", "an object", root)) };
        for resource_logs in lists(root, RESOURCE_LOGS) {
            for resource_logs in resource_logs?.elements() {
                let object = object_in(resource_logs, RESOURCE_LOGS)?;
                let resource = resource(object).map_err(|fault| invalid_level("resource", fault))?;
                for scope_logs in lists(object, SCOPE_LOGS) {
                    for scope_logs in scope_logs?.elements() {
                        let object = object_in(scope_logs, SCOPE_LOGS)?;
                        let scope = scope(object).map_err(|fault| invalid_level("scope", fault))?;
                        let levels = Levels::new(&resource, &scope);
                        for records in lists(object, LOG_RECORDS) {
                            for record in records?.elements() {
                                self.add(record, record.as_written(), &levels)?;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, record: Value<'_>, sent: &[u8], levels: &Levels<'_>) -> Result<(), BodyError> {
        let identities = &mut self.identities;
        let read = |index, origin| {
            let found = log_record(record, index)?;
            found.into_event(levels, identities, (index, origin))
        };
        self.sink.add(read, || Cow::Borrowed(sent))
    }

    /// Reads a body that the parser has refused because of this fault.
    fn read_refused(&mut self, body: &[u8], fault: &json::Fault) -> Result<(), BodyError> {
        let all = Part::of(body, RESOURCE_LOGS, fault)?;
        all.parse(|_| Ok(()))?;
        for text in all.elements() {
            let part = Part::of(text, SCOPE_LOGS, fault)?;
            let resource =
                part.parse(|object| resource(object).map_err(|it| invalid_level("resource", it)))?;
            for text in part.elements() {
                let part = Part::of(text, LOG_RECORDS, fault)?;
                let scope = part.parse(|object| scope(object).map_err(|it| invalid_level("scope", it)))?;
                let levels = Levels::new(&resource, &scope);
                for sent in part.elements() {
                    self.add_alone(sent, &levels)?;
                }
            }
        }
        Ok(())
    }

    /// Reads a record that is parsed alone.
    fn add_alone(&mut self, sent: &[u8], levels: &Levels<'_>) -> Result<(), BodyError> {
        let repaired = json::repaired(sent);
        let wrapped = [WRAP.0, &repaired, WRAP.1].concat();
        json::parse(&wrapped, |parsed| match parsed.map(|document| innermost(document.root())) {
            Ok(Some(record)) => self.add(record, sent, levels),
            Ok(None) => {
                self.add_fault(sent, &json::Fault::Grammar { at: 0, reason: "an unexpected character" })
            }
            Err(fault) => self.add_fault(sent, &fault),
        })
    }

    fn add_fault(&mut self, sent: &[u8], fault: &json::Fault) -> Result<(), BodyError> {
        let fault = match fault {
            json::Fault::Grammar { at, reason } => {
                json::Fault::Grammar { at: at.saturating_sub(WRAP.0.len()).min(sent.len()), reason }
            }
            unstorable => unstorable.clone(),
        };
        let reject = |index, _| Err(tolerant::rejection(Validator { index }, "log record", &fault));
        self.sink.add(reject, || Cow::Borrowed(sent))
    }
}

/// The only value in the brackets of [`WRAP`].
fn innermost(root: Value<'_>) -> Option<Value<'_>> {
    (0..WRAP.0.len()).try_fold(root, |value, _| match value {
        Value::Array(array) if array.len() == 1 => array.elements().next(),
        _ => None,
    })
}

/// The most elements of one list in a refused body.
const RANGES_MAX: usize = 1 << 17;

/// An object of a refused body, and the list in it that holds the next level.
struct Part<'b> {
    text: &'b [u8],
    list: Option<Elements>,
}

impl<'b> Part<'b> {
    /// Finds the list. An object that does not close is an error with the parser's fault.
    fn of(text: &'b [u8], names: [&str; 2], fault: &json::Fault) -> Result<Self, BodyError> {
        for name in names {
            let outline = json::outline(text, Some(name), RANGES_MAX).ok_or_else(|| invalid_json(fault))?;
            match outline.events.filter(|_| outline.is_object) {
                Some(list) if list.count > RANGES_MAX || outline.envelopes > 1 => {
                    return Err(invalid_json(fault));
                }
                Some(list) => return Ok(Self { text, list: Some(list) }),
                None => {}
            }
        }
        Ok(Self { text, list: None })
    }

    fn elements(&self) -> impl Iterator<Item = &'b [u8]> {
        self.list.iter().flat_map(|list| &list.ranges).map(|range| &self.text[range.clone()])
    }

    /// Reads the object without the list.
    fn parse<T>(&self, read: impl FnOnce(Container<'_>) -> Result<T, BodyError>) -> Result<T, BodyError> {
        let outside = match &self.list {
            Some(list) => [&self.text[..list.inside.start], &self.text[list.inside.end..]].concat(),
            None => self.text.to_vec(),
        };
        json::parse(&json::repaired(&outside), |parsed| match parsed.map(json::Document::root) {
            Ok(Value::Object(object)) => read(object),
            Ok(other) => Err(wrong_form("the body, or a part around its log records,", "an object", other)),
            Err(fault) => Err(invalid_json(&fault)),
        })
    }
}

fn invalid_json(fault: &json::Fault) -> BodyError {
    let message = match fault {
        json::Fault::Grammar { at, reason } => {
            format!("the body, or a part around its log records, is not valid JSON at byte {at}: {reason}")
        }
        json::Fault::Unstorable(_) => {
            "the body has a value outside of its log records that cannot be stored".to_owned()
        }
    };
    BodyError::InvalidJson { message }
}

fn wrong_form(what: &str, expected: &str, found: Value<'_>) -> BodyError {
    let message = format!("{what} must be {expected}, not {}; expected {EXPECTED}", found.kind());
    BodyError::InvalidJson { message }
}

fn invalid_level(what: &str, fault: Fault) -> BodyError {
    let why = match fault {
        Fault::TooManyValues => "too many attributes",
        _ => "an attribute that is nested too deeply, or a number that cannot be stored",
    };
    BodyError::InvalidJson { message: format!("a {what} of the body has {why}") }
}

/// The arrays of an object with these names. `null` is no array.
fn lists<'a>(
    object: Container<'a>,
    names: [&'static str; 2],
) -> impl Iterator<Item = Result<Container<'a>, BodyError>> {
    object.members().filter(move |(name, _)| names.contains(name)).filter_map(move |(_, value)| match value {
        Value::Array(list) => Some(Ok(list)),
        Value::Null => None,
        other => Some(Err(wrong_form(names[0], "an array", other))),
    })
}

fn object_in<'a>(value: Value<'a>, names: [&'static str; 2]) -> Result<Container<'a>, BodyError> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(wrong_form(&format!("an element of {}", names[0]), "an object", other)),
    }
}

fn resource(object: Container<'_>) -> Result<Level, Fault> {
    let mut reader = LevelReader::default();
    for (name, value) in object.members().filter(|(name, _)| !SCOPE_LOGS.contains(name)) {
        match (name, value) {
            ("resource", Value::Object(resource)) => {
                for (name, value) in resource.members() {
                    reader.read(name, value, false)?;
                }
            }
            _ => reader.keep_outer(name, value)?,
        }
    }
    reader.parts.resource(&mut reader.room)
}

fn scope(object: Container<'_>) -> Result<Level, Fault> {
    let mut reader = LevelReader::default();
    for (name, value) in object.members().filter(|(name, _)| !LOG_RECORDS.contains(name)) {
        match (name, value) {
            ("scope", Value::Object(scope)) => {
                for (name, value) in scope.members() {
                    reader.read(name, value, true)?;
                }
            }
            _ => reader.keep_outer(name, value)?,
        }
    }
    reader.parts.scope(&mut reader.room)
}

/// Reads the members of a resource or a scope.
#[derive(Default)]
struct LevelReader<'a> {
    parts: LevelParts<'a>,
    room: Room,
}

impl<'a> LevelReader<'a> {
    fn read(&mut self, name: &'a str, value: Value<'a>, is_scope: bool) -> Result<(), Fault> {
        match (name, value) {
            ("name", Value::String(..)) if is_scope => self.parts.name = Some(value.storable()?),
            ("version", Value::String(..)) if is_scope => self.parts.version = Some(value.storable()?),
            ("attributes", Value::Array(list)) => {
                let (attributes, are_all) = Attribute::all_of_json(list, &mut self.room)?;
                self.parts.attributes.extend(attributes);
                if !are_all {
                    self.parts.rest.add(name, &self.room.storable(value)?);
                }
            }
            _ if says_nothing(value) => {}
            _ => self.parts.rest.add(without_nul(camel(name)), &self.room.storable(value)?),
        }
        Ok(())
    }

    fn keep_outer(&mut self, name: &'a str, value: Value<'a>) -> Result<(), Fault> {
        if !says_nothing(value) {
            self.parts.outer_rest.add(without_nul(camel(name)), &self.room.storable(value)?);
        }
        Ok(())
    }
}

/// A value that protobuf would not send: a default.
fn says_nothing(value: Value<'_>) -> bool {
    match value {
        Value::Number(bytes) => bytes == b"0",
        Value::Object(container) | Value::Array(container) => container.is_empty(),
        other => is_empty(other),
    }
}

/// The name of a known member in the spelling of JSON.
fn camel(name: &str) -> &str {
    match name {
        "schema_url" => "schemaUrl",
        "dropped_attributes_count" => "droppedAttributesCount",
        "severity_number" => "severityNumber",
        "severity_text" => "severityText",
        "trace_id" => "traceId",
        "span_id" => "spanId",
        other => other,
    }
}

fn log_record(value: Value<'_>, index: usize) -> Result<LogRecord<'_>, Rejection> {
    let Value::Object(object) = value else {
        let message = format!("a log record must be an object, not {}", value.kind());
        return Err(Validator { index }.reject(RejectionCode::InvalidEvent, message));
    };
    let mut record = LogRecord::default();
    for (name, value) in object.members() {
        read_member(&mut record, name, value).map_err(|fault| fault.rejection(index))?;
    }
    Ok(record)
}

fn read_member<'a>(record: &mut LogRecord<'a>, name: &'a str, value: Value<'a>) -> Result<(), Fault> {
    match (name, value) {
        ("timeUnixNano" | "time_unix_nano", value) => match nanoseconds(value) {
            Some(ns) => record.time_ns = Some(ns).filter(|ns| *ns != 0),
            None => keep(record, "timeUnixNano", value)?,
        },
        ("observedTimeUnixNano" | "observed_time_unix_nano", value) => match nanoseconds(value) {
            Some(ns) => {
                record.observed_ns = Some(ns).filter(|ns| *ns != 0);
                if ns != 0 {
                    record.rest.add("observedTimeUnixNano", itoa::Buffer::new().format(ns).as_bytes());
                }
            }
            None => keep(record, "observedTimeUnixNano", value)?,
        },
        ("eventName" | "event_name", Value::String(name, _)) if !name.is_empty() => {
            record.event_name = Some(storable_text(Cow::Borrowed(name)));
        }
        ("attributes", Value::Array(list)) => {
            let (attributes, are_all) = Attribute::all_of_json(list, &mut record.room)?;
            if record.attributes.is_empty() {
                record.attributes = attributes;
            } else {
                record.attributes.extend(attributes);
            }
            if !are_all {
                keep(record, name, value)?;
            }
        }
        ("body", value) => record.body = AnyValue::of_json(value),
        (name, value) => keep(record, camel(name), value)?,
    }
    Ok(())
}

fn keep<'a>(record: &mut LogRecord<'a>, name: &'a str, value: Value<'a>) -> Result<(), Fault> {
    if says_nothing(value) {
        return Ok(());
    }
    let json = record.room.storable(value)?;
    record.keep(name, &json);
    Ok(())
}

/// A number of nanoseconds, which JSON has as a string or as a number.
fn nanoseconds(value: Value<'_>) -> Option<u64> {
    match value {
        Value::String(text, _) => text.parse().ok(),
        Value::Number(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}
