//! What is stored of a subject, as JSON objects for an export. The member `record` says what an object is.

use millrace_event::row::{self, EventTime, Row};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::figures::FigureRow;
use super::letter::LetterRead;
use crate::cancellations::FoundEvent;
use crate::{RejectionSample, rows_of_letter};

/// Where an export is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordsPlace {
    /// Events after this timestamp and id; from the first one without.
    Events { after: Option<(i64, Uuid)> },
    /// Dead letters with a higher number.
    Letters { after: i64 },
    /// Figures of meters from this one on, after this bucket.
    Figures { meter: i64, after_us: i64 },
    /// Samples, limits, thresholds and notifications.
    Rest,
}

impl RecordsPlace {
    /// Where an export begins.
    pub const START: Self = Self::Events { after: None };
}

/// A page of an export.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SubjectRecords {
    /// Objects, each with a member `record`.
    pub records: Vec<Value>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<RecordsPlace>,
}

/// A time in microseconds since 1970 as RFC 3339, or the number for a time that has none.
fn moment(us: i64) -> Value {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).ok();
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).map_or_else(|| us.into(), Value::from)
}

fn moment_of(moment: OffsetDateTime) -> Value {
    moment.format(&Rfc3339).map_or(Value::Null, Value::from)
}

fn parsed(text: Option<&[u8]>) -> Value {
    let Some(text) = text else { return Value::Null };
    serde_json::from_slice(text).unwrap_or_else(|_| String::from_utf8_lossy(text).into())
}

pub(crate) fn event(event: &FoundEvent) -> Value {
    json!({
        "record": "event",
        "id": event.event_id,
        "timestamp": moment(event.timestamp_us),
        "received_at": moment(event.received_us),
        "name": event.name,
        "subject": event.subject,
        "client_id": event.client_id,
        "properties": parsed(event.properties.as_deref()),
        "context": parsed(event.context.as_deref()),
        "cancelled": event.is_cancelled,
    })
}

/// A letter that has something of the subject. Events of others in it are left out.
pub(crate) fn dead_letter(letter: &LetterRead, received_us: i64, reason: &str, subject: &str) -> Value {
    let code = letter.code.as_deref();
    let mut record = json!({
        "record": "dead_letter",
        "dead_letter_id": letter.id,
        "received_at": moment(received_us),
        "code": code,
        "reason": reason,
    });
    let rows = rows_of_letter(letter.project, letter.event_index, letter.event_count, code, &letter.payload);
    match rows {
        Ok(rows) => {
            let rows = row::split(&rows).filter_map(Result::ok);
            let events = rows.filter_map(|row| Row::read(row).ok());
            let events = events.filter(|event| event.subject == Some(subject));
            record["events"] = events.map(|event| row_of_letter(&event)).collect();
        }
        Err(_) => record["payload"] = String::from_utf8_lossy(&letter.payload).into(),
    }
    record
}

fn row_of_letter(event: &Row<'_>) -> Value {
    let timestamp = match event.time {
        EventTime::At(us) => moment(us),
        EventTime::Undated | EventTime::Anonymous | EventTime::Undeliverable => Value::Null,
    };
    json!({
        "id": event.event_id,
        "timestamp": timestamp,
        "name": event.name,
        "subject": event.subject,
        "client_id": event.client_id,
        "properties": parsed(event.properties),
        "context": parsed(event.context),
    })
}

pub(crate) fn sample(sample: &RejectionSample) -> Value {
    json!({
        "record": "sample",
        "at": moment_of(sample.at),
        "kind": sample.kind.name(),
        "code": sample.code,
        "message": sample.message,
        "payload": sample.payload.as_deref().map(|payload| String::from_utf8_lossy(payload).into_owned()),
    })
}

/// A figure of a meter, of a quarter of an hour.
pub(crate) fn figure(slug: &str, figure: &FigureRow) -> Value {
    let text = (!figure.text.is_empty()).then_some(&figure.text);
    json!({
        "record": "meter_figure",
        "meter": slug,
        "start": moment(figure.bucket_us),
        "groups": parsed(Some(figure.groups.as_bytes())),
        "events": figure.events,
        "value": figure.value.as_ref().or(text),
    })
}
