//! Reads the message `ExportLogsServiceRequest`. The numbers of fields are those of OpenTelemetry's protocol
//! 1.10.
//!
//! Fields that are not known are ignored, as the specification says. A record that cannot be read becomes a
//! dead letter with its bytes in base64. Anything else that cannot be read makes the body invalid: where its
//! records are is then unknown.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::any_value::{AnyValue, Attribute, Fault, Room, storable_text};
use super::identity::Identities;
use super::level::{Level, LevelParts, Levels};
use super::record::LogRecord;
use super::wire::{Field, Fields, Malformed};
use crate::dialect::call::push_string;
use crate::dialect::sink::{BodyError, EventSink};

/// Reads a whole body.
///
/// # Errors
/// [`BodyError::InvalidJson`] for a body that is no such message, and those of [`EventSink::add`].
pub(super) fn read(body: &[u8], sink: &mut EventSink) -> Result<(), BodyError> {
    let mut identities = Identities::default();
    for resource_logs in messages(body, RESOURCE_LOGS, "the body") {
        let resource_logs = resource_logs?;
        let resource = resource(resource_logs).map_err(|fault| invalid("a message ResourceLogs", fault))?;
        for scope_logs in messages(resource_logs, SCOPE_LOGS, "a message ResourceLogs") {
            let scope_logs = scope_logs?;
            let scope = scope(scope_logs).map_err(|fault| invalid("a message ScopeLogs", fault))?;
            let levels = Levels::new(&resource, &scope);
            for record in messages(scope_logs, LOG_RECORDS, "a message ScopeLogs") {
                let record = record?;
                let read = |index, origin| {
                    let found = log_record(record).map_err(|fault| fault.rejection(index))?;
                    found.into_event(&levels, &mut identities, (index, origin))
                };
                sink.add(read, || dead_letter(record))?;
            }
        }
    }
    Ok(())
}

/// `ExportLogsServiceRequest.resource_logs`
const RESOURCE_LOGS: u32 = 1;
/// `ResourceLogs.scope_logs`
const SCOPE_LOGS: u32 = 2;
/// `ScopeLogs.log_records`
const LOG_RECORDS: u32 = 2;

/// The messages in the fields of this number.
fn messages<'a>(
    message: &'a [u8],
    number: u32,
    what: &'static str,
) -> impl Iterator<Item = Result<&'a [u8], BodyError>> {
    Fields::of(message).filter_map(move |field| match field {
        Ok((found, field)) if found == number => {
            Some(field.bytes().map_err(|malformed| invalid(what, malformed.into())))
        }
        Ok(_) => None,
        Err(malformed) => Some(Err(invalid(what, malformed.into()))),
    })
}

fn invalid(what: &str, fault: Fault) -> BodyError {
    let why = match fault {
        Fault::Malformed => "is cut off, or is not this message",
        Fault::Unstorable(_) => "has attributes that are nested too deeply, or numbers that cannot be stored",
        Fault::TooManyValues => "has too many attributes",
    };
    let message = format!("the body is not a protobuf message ExportLogsServiceRequest: {what} {why}");
    BodyError::InvalidJson { message }
}

fn dead_letter(record: &[u8]) -> Cow<'static, [u8]> {
    Cow::Owned(format!(r#"{{"logRecordProtobuf":"{}"}}"#, STANDARD.encode(record)).into_bytes())
}

fn resource(message: &[u8]) -> Result<Level, Fault> {
    let (mut parts, mut room) = (LevelParts::default(), Room::default());
    for field in Fields::of(message) {
        match field? {
            (1, resource) => {
                for field in Fields::of(resource.bytes()?) {
                    match field? {
                        (1, attribute) => add_attribute(&mut parts, attribute, &mut room)?,
                        (2, count) => add_count(&mut parts, count)?,
                        _ => {}
                    }
                }
            }
            (3, url) => add_schema_url(&mut parts, url)?,
            _ => {}
        }
    }
    parts.resource(&mut room)
}

fn scope(message: &[u8]) -> Result<Level, Fault> {
    let (mut parts, mut room) = (LevelParts::default(), Room::default());
    for field in Fields::of(message) {
        match field? {
            (1, scope) => {
                for field in Fields::of(scope.bytes()?) {
                    match field? {
                        (1, name) => parts.name = Some(Cow::Owned(text_json(name)?)),
                        (2, version) => parts.version = Some(Cow::Owned(text_json(version)?)),
                        (3, attribute) => add_attribute(&mut parts, attribute, &mut room)?,
                        (4, count) => add_count(&mut parts, count)?,
                        _ => {}
                    }
                }
            }
            (3, url) => add_schema_url(&mut parts, url)?,
            _ => {}
        }
    }
    parts.scope(&mut room)
}

fn add_attribute<'a>(parts: &mut LevelParts<'a>, field: Field<'a>, room: &mut Room) -> Result<(), Fault> {
    room.take()?;
    parts.attributes.push(Attribute::of_wire(field.bytes()?)?);
    Ok(())
}

fn add_count(parts: &mut LevelParts<'_>, field: Field<'_>) -> Result<(), Malformed> {
    if let Some(count) = number_json(field.varint()?) {
        parts.rest.add("droppedAttributesCount", &count);
    }
    Ok(())
}

fn add_schema_url(parts: &mut LevelParts<'_>, field: Field<'_>) -> Result<(), Malformed> {
    if !field.bytes()?.is_empty() {
        parts.outer_rest.add("schemaUrl", &text_json(field)?);
    }
    Ok(())
}

fn text_json(field: Field<'_>) -> Result<Vec<u8>, Malformed> {
    let mut json = Vec::new();
    push_string(&mut json, &field.text()?);
    Ok(json)
}

/// A number but 0, which is the same as no number.
fn number_json(number: u64) -> Option<Vec<u8>> {
    (number != 0).then(|| itoa::Buffer::new().format(number).as_bytes().to_vec())
}

fn hex_json(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]);
    [b'"'].into_iter().chain(digits).chain([b'"']).collect()
}

/// Room for the attributes of a record.
const ATTRIBUTES: usize = 16;

fn log_record(message: &[u8]) -> Result<LogRecord<'_>, Fault> {
    let mut record = LogRecord { attributes: Vec::with_capacity(ATTRIBUTES), ..LogRecord::default() };
    for field in Fields::of(message) {
        match field? {
            (1, time) => record.time_ns = Some(time.fixed64()?).filter(|ns| *ns != 0),
            (2, severity) => {
                let number = severity.varint()?.cast_signed();
                if number != 0 {
                    record.rest.add("severityNumber", itoa::Buffer::new().format(number).as_bytes());
                }
            }
            (3, text) => keep_text(&mut record, "severityText", text)?,
            (5, body) => record.body = AnyValue::of_wire(body.bytes()?)?,
            (6, attribute) => {
                record.room.take()?;
                record.attributes.push(Attribute::of_wire(attribute.bytes()?)?);
            }
            (7, count) => keep_number(&mut record, "droppedAttributesCount", count.varint()?),
            (8, flags) => keep_number(&mut record, "flags", flags.fixed32()?.into()),
            (9, id) => keep_hex(&mut record, "traceId", id)?,
            (10, id) => keep_hex(&mut record, "spanId", id)?,
            (11, time) => {
                let ns = time.fixed64()?;
                record.observed_ns = Some(ns).filter(|ns| *ns != 0);
                keep_number(&mut record, "observedTimeUnixNano", ns);
            }
            (12, name) => {
                record.event_name = Some(storable_text(name.text()?)).filter(|name| !name.is_empty());
            }
            _ => {}
        }
    }
    Ok(record)
}

fn keep_number(record: &mut LogRecord<'_>, name: &'static str, number: u64) {
    if number != 0 {
        record.rest.add(name, itoa::Buffer::new().format(number).as_bytes());
    }
}

fn keep_text(record: &mut LogRecord<'_>, name: &'static str, field: Field<'_>) -> Result<(), Malformed> {
    if !field.bytes()?.is_empty() {
        record.rest.add(name, &text_json(field)?);
    }
    Ok(())
}

fn keep_hex(record: &mut LogRecord<'_>, name: &'static str, field: Field<'_>) -> Result<(), Malformed> {
    let bytes = field.bytes()?;
    if !bytes.is_empty() {
        record.rest.add(name, &hex_json(bytes));
    }
    Ok(())
}
