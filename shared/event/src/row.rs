//! One event as one row of `events`, in PostgreSQL's binary COPY format.
//!
//! Source of the format: PostgreSQL documentation, "COPY", "Binary Format": a tuple is a 16-bit field count,
//! then for each field a 32-bit length (-1 is NULL) and the bytes, all big-endian. The API writes a row once;
//! later steps only move its bytes. Fields of fixed width come first, so that the key is at known offsets,
//! and the two times that only the stream knows can be written in place:
//!
//! | offset | field | type |
//! |---|---|---|
//! | 6 | `project_id` | bigint |
//! | 18 | `timestamp` | timestamptz, or a mark: see [`EventTime`] |
//! | 30 | `event_id` | uuid |
//! | 50 | `received_at` | timestamptz; until [`write_stamped`] 0, or 1 with [`Row::by_id`] |
//! | 58… | `name`, `subject`, `client_id`, `properties`, `context` | text, text, text, jsonb, jsonb |
//!
//! A call that no event can be made of is a row as well, so that it is accepted, counted and dead-lettered in
//! the transaction of its batch: see [`crate::undeliverable`].
//!
//! Writing and reading are in this file, and a property test compares them.

use uuid::Uuid;

use crate::plan::ProjectId;

/// Columns of a row, in the order of the COPY statement.
pub const COLUMNS: &str =
    "project_id, timestamp, event_id, received_at, name, subject, client_id, properties, context";

const FIELD_COUNT: i16 = 9;
const PROJECT_AT: usize = 6;
const TIMESTAMP_AT: usize = 18;
const EVENT_ID_AT: usize = 30;
const RECEIVED_AT: usize = 50;
const FIXED_BYTES: usize = 58;
/// The shortest row: five empty fields after the fixed ones.
pub const BYTES_MIN: usize = FIXED_BYTES + 5 * 4;
/// The version byte that opens a jsonb value on the wire.
const JSONB_VERSION: u8 = 1;
/// PostgreSQL counts microseconds from 2000-01-01.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
/// PostgreSQL's earliest time, in 4714 BC (source: `MIN_TIMESTAMP` in its datatype/timestamp.h). The worker
/// looks up a row's time before it sends the row, so an invalid time would fail a query that no single row
/// can be blamed for.
const FIRST_TIME: i64 = -211_813_488_000_000_000;
/// The latest time that fits into microseconds since 1970, in the year 294247.
const LAST_TIME: i64 = i64::MAX - POSTGRES_EPOCH_US;
/// The time that marks an undeliverable call. Not a valid time, so a release that does not know the mark
/// dead-letters the whole entry instead of storing the call as an event.
const UNDELIVERABLE: i64 = i64::MAX - 1;
/// The unstamped receive time of a row whose id alone identifies it. Releases that do not know the mark
/// overwrite it.
const BY_ID: i64 = 1;
/// Fields from this index on are jsonb.
const FIRST_JSON_FIELD: i16 = 7;

/// When an event happened, which also decides how a duplicate is recognized. On the wire, `Undated` is
/// PostgreSQL's -infinity, `Anonymous` its infinity, and `Undeliverable` the number before infinity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventTime {
    /// The client's time, in microseconds since 1970.
    At(i64),
    /// The client sent an id and no time. The receive time is used, and the id identifies the event.
    Undated,
    /// The client sent neither. The receive time is used, and the batch identifies the event.
    Anonymous,
    /// The row is no event but an [`crate::undeliverable::UndeliverableCall`], and goes to the dead letters.
    Undeliverable,
}

impl EventTime {
    fn to_wire(self) -> i64 {
        match self {
            Self::At(us) => us - POSTGRES_EPOCH_US,
            Self::Undated => i64::MIN,
            Self::Anonymous => i64::MAX,
            Self::Undeliverable => UNDELIVERABLE,
        }
    }

    fn from_wire(wire: i64) -> Self {
        match wire {
            i64::MIN => Self::Undated,
            i64::MAX => Self::Anonymous,
            UNDELIVERABLE => Self::Undeliverable,
            us => Self::At(us + POSTGRES_EPOCH_US),
        }
    }
}

/// One event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row<'a> {
    pub project: ProjectId,
    pub time: EventTime,
    pub event_id: Uuid,
    /// The id alone identifies the event, at any time: see [`crate::policy::Dedupe::Id`].
    pub by_id: bool,
    pub name: &'a str,
    pub subject: Option<&'a str>,
    /// The client's id, if it is not a UUID.
    pub client_id: Option<&'a str>,
    /// A JSON object, as text.
    pub properties: Option<&'a [u8]>,
    /// A JSON object, as text.
    pub context: Option<&'a [u8]>,
}

impl Row<'_> {
    /// Appends the row to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&FIELD_COUNT.to_be_bytes());
        push_field(out, &self.project.0.to_be_bytes());
        push_field(out, &self.time.to_wire().to_be_bytes());
        push_field(out, self.event_id.as_bytes());
        push_field(out, &(if self.by_id { BY_ID } else { 0 }).to_be_bytes());
        push_field(out, self.name.as_bytes());
        push_optional(out, self.subject.map(str::as_bytes));
        push_optional(out, self.client_id.map(str::as_bytes));
        push_json(out, self.properties);
        push_json(out, self.context);
    }
}

fn push_length(out: &mut Vec<u8>, bytes: usize) {
    let length = i32::try_from(bytes).expect("a field is smaller than the largest body");
    out.extend_from_slice(&length.to_be_bytes());
}

fn push_field(out: &mut Vec<u8>, field: &[u8]) {
    push_length(out, field.len());
    out.extend_from_slice(field);
}

fn push_optional(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        Some(field) => push_field(out, field),
        None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
    }
}

fn push_json(out: &mut Vec<u8>, json: Option<&[u8]>) {
    match json {
        Some(json) => {
            push_length(out, json.len() + 1);
            out.push(JSONB_VERSION);
            out.extend_from_slice(json);
        }
        None => push_optional(out, None),
    }
}

/// Bytes that are not a row of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed row at byte {at}")]
pub struct MalformedRow {
    /// The offset at which the malformed row begins.
    pub at: usize,
}

/// Splits consecutive rows, and checks the structure of each.
///
/// # Errors
/// [`MalformedRow`] as the last item, if a row is malformed.
pub fn split(rows: &[u8]) -> impl Iterator<Item = Result<&[u8], MalformedRow>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= rows.len() {
            return None;
        }
        let start = at;
        match row_end(rows, start) {
            Some(end) => {
                at = end;
                Some(Ok(&rows[start..end]))
            }
            None => {
                at = rows.len();
                Some(Err(MalformedRow { at: start }))
            }
        }
    })
}

/// The end of the row that starts at `start`; `None` if it is malformed.
fn row_end(rows: &[u8], start: usize) -> Option<usize> {
    let fixed = rows.get(start..start + FIXED_BYTES)?;
    let widths = [(2, 8_i32), (14, 8), (26, 16), (46, 8)];
    let has_shape = fixed[..2] == FIELD_COUNT.to_be_bytes()
        && widths.iter().all(|&(at, width)| fixed[at..at + 4] == width.to_be_bytes());
    let time = i64::from_be_bytes(fixed[TIMESTAMP_AT..TIMESTAMP_AT + 8].try_into().ok()?);
    let is_time = matches!(time, i64::MIN | FIRST_TIME..=LAST_TIME | UNDELIVERABLE | i64::MAX);
    if !has_shape || !is_time {
        return None;
    }
    let mut at = start + FIXED_BYTES;
    for field in 4..FIELD_COUNT {
        let length = i32::from_be_bytes(rows.get(at..at + 4)?.try_into().ok()?);
        at += 4;
        match usize::try_from(length) {
            Ok(bytes) => {
                let value = rows.get(at..at.checked_add(bytes)?)?;
                // PostgreSQL reports this as an internal error instead of a data error.
                if field >= FIRST_JSON_FIELD && value.first() != Some(&JSONB_VERSION) {
                    return None;
                }
                at += bytes;
            }
            Err(_) if length == -1 && field > 4 => {}
            Err(_) => return None,
        }
    }
    Some(at)
}

/// The primary key of a row in `events`, with the order of that key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RowKey {
    pub project: ProjectId,
    /// Microseconds since 1970.
    pub timestamp_us: i64,
    pub event_id: Uuid,
}

/// A text column of a row is not UTF-8, so the row cannot be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid byte sequence for encoding UTF8 (column {column})")]
pub struct InvalidUtf8 {
    pub column: &'static str,
}

impl<'a> Row<'a> {
    /// An event without a time, a subject and JSON. Others begin with it: `Row { time, ..Row::bare(…) }`.
    pub fn bare(project: ProjectId, event_id: Uuid, name: &'a str) -> Self {
        Self {
            project,
            time: EventTime::Anonymous,
            event_id,
            by_id: false,
            name,
            subject: None,
            client_id: None,
            properties: None,
            context: None,
        }
    }

    /// Reads a row from [`split`], the inverse of [`Row::write`]. Does not check that JSON columns are JSON.
    ///
    /// # Errors
    /// [`InvalidUtf8`] when a text or JSON column is not UTF-8.
    pub fn read(row: &'a [u8]) -> Result<Self, InvalidUtf8> {
        let mut rest = &row[FIXED_BYTES..];
        let mut text = |column| {
            let field = next_field(&mut rest);
            field.map(|bytes| std::str::from_utf8(bytes).map_err(|_| InvalidUtf8 { column })).transpose()
        };
        // The version byte is ASCII, so that it can be removed from a text.
        let json = |text: &'a str| &text.as_bytes()[1..];
        Ok(Self {
            project: project(row),
            time: time(row),
            event_id: event_id(row),
            by_id: by_id(row),
            name: text("name")?.expect("a split row has a name"),
            subject: text("subject")?,
            client_id: text("client_id")?,
            properties: text("properties")?.map(json),
            context: text("context")?.map(json),
        })
    }
}

/// The fields of variable width of a row from [`split`], as they are on the wire; `None` is NULL.
pub fn variable_fields(row: &[u8]) -> [Option<&[u8]>; 5] {
    let mut rest = &row[FIXED_BYTES..];
    std::array::from_fn(|_| next_field(&mut rest))
}

/// Removes the next field of variable width from `rest`; `None` is NULL.
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk().expect("a split row holds the length of every field");
    *rest = after;
    let bytes = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    let (field, after) = rest.split_at(bytes);
    *rest = after;
    Some(field)
}

fn fixed<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    row[at..at + N].try_into().expect("a split row holds all fixed fields")
}

/// The project of a row from [`split`].
pub fn project(row: &[u8]) -> ProjectId {
    ProjectId(i64::from_be_bytes(fixed(row, PROJECT_AT)))
}

/// The time of a row from [`split`].
pub fn time(row: &[u8]) -> EventTime {
    EventTime::from_wire(i64::from_be_bytes(fixed(row, TIMESTAMP_AT)))
}

/// Whether the id alone identifies the row from [`split`], which is not stamped yet.
pub fn by_id(row: &[u8]) -> bool {
    i64::from_be_bytes(fixed(row, RECEIVED_AT)) == BY_ID
}

/// The event id of a row from [`split`].
pub fn event_id(row: &[u8]) -> Uuid {
    Uuid::from_bytes(fixed(row, EVENT_ID_AT))
}

/// The primary key of a row from [`split`] that was received at `received_us` (microseconds since 1970).
pub fn key(row: &[u8], received_us: i64) -> RowKey {
    let timestamp_us = match time(row) {
        EventTime::At(us) => us,
        EventTime::Undated | EventTime::Anonymous | EventTime::Undeliverable => received_us,
    };
    RowKey { project: project(row), timestamp_us, event_id: event_id(row) }
}

/// Appends the row to `out` with its receive time, which is also the timestamp of an event without a time.
pub fn write_stamped(row: &[u8], received_us: i64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(row);
    stamp(&mut out[start..], received_us);
}

/// As [`write_stamped`], for columns of the type json: its values have no version byte on the wire.
pub fn write_stamped_for_json(row: &[u8], received_us: i64, out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = &row[FIXED_BYTES..];
    for _ in 4..FIRST_JSON_FIELD {
        next_field(&mut rest);
    }
    out.extend_from_slice(&row[..row.len() - rest.len()]);
    stamp(&mut out[start..], received_us);
    while !rest.is_empty() {
        push_optional(out, next_field(&mut rest).map(|json| &json[1..]));
    }
}

/// Sets the times of a row that only the stream knows.
fn stamp(row: &mut [u8], received_us: i64) {
    let wire = (received_us - POSTGRES_EPOCH_US).to_be_bytes();
    row[RECEIVED_AT..RECEIVED_AT + 8].copy_from_slice(&wire);
    if !matches!(time(row), EventTime::At(_)) {
        row[TIMESTAMP_AT..TIMESTAMP_AT + 8].copy_from_slice(&wire);
    }
}
