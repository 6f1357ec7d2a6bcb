//! One event as one row of `events`, in PostgreSQL's binary COPY format.
//!
//! Source of the format: PostgreSQL documentation, "COPY", "Binary Format": a tuple is a 16-bit field count, then for
//! each field a 32-bit length (-1 is NULL) and the bytes, all big-endian. A row is written once, at the edge, and from
//! then on only moved. The fields of fixed width come first, so that the key stands at known offsets and the two times
//! that only the stream knows can be stamped in place:
//!
//! | offset | field | type |
//! |---|---|---|
//! | 6 | `project_id` | bigint |
//! | 18 | `timestamp` | timestamptz; -infinity: undated, told apart by its id; infinity: undated, the id is the batch's |
//! | 30 | `event_id` | uuid |
//! | 50 | `received_at` | timestamptz, 0 until stamped |
//! | 58… | `name`, `subject`, `client_id`, `properties`, `context` | text, text, text, jsonb, jsonb |
//!
//! Writing and reading stand side by side; a property test holds them together. No I/O in this room.

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
/// The shortest row: five empty fields behind the fixed ones.
pub const BYTES_MIN: usize = FIXED_BYTES + 5 * 4;
/// The version byte that opens a jsonb value on the wire.
const JSONB_VERSION: u8 = 1;
/// PostgreSQL counts microseconds from 2000-01-01.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
/// The first time PostgreSQL has, in 4714 BC (source: `MIN_TIMESTAMP` in its datatype/timestamp.h). A row's time is asked
/// about before the row is sent, so one that is none fails where no row can be blamed.
const FIRST_TIME: i64 = -211_813_488_000_000_000;
/// The last time that can be told in microseconds since 1970, in the year 294247.
const LAST_TIME: i64 = i64::MAX - POSTGRES_EPOCH_US;
/// From this field on, a field is jsonb.
const FIRST_JSON_FIELD: i16 = 7;

/// When an event happened, and so what it is recognised by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventTime {
    /// Microseconds since 1970, as the client said.
    At(i64),
    /// The client gave an id but no time: it happens when it is received, and is recognised by its id.
    Undated,
    /// The client gave neither: it happens when it is received, and is recognised by its batch.
    Anonymous,
}

impl EventTime {
    fn to_wire(self) -> i64 {
        match self {
            Self::At(us) => us - POSTGRES_EPOCH_US,
            Self::Undated => i64::MIN,
            Self::Anonymous => i64::MAX,
        }
    }

    fn from_wire(wire: i64) -> Self {
        match wire {
            i64::MIN => Self::Undated,
            i64::MAX => Self::Anonymous,
            us => Self::At(us + POSTGRES_EPOCH_US),
        }
    }
}

/// One event, ready to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row<'a> {
    /// Whose event it is.
    pub project: ProjectId,
    /// When it happened.
    pub time: EventTime,
    /// Its identity within project and time.
    pub event_id: Uuid,
    /// What happened.
    pub name: &'a str,
    /// Who it happened to.
    pub subject: Option<&'a str>,
    /// The id as the client wrote it, when that is not a UUID.
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
        push_field(out, &0_i64.to_be_bytes());
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

/// What is wrong with bytes that should be rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("byte {at} is not where a row of this version goes on")]
pub struct RowDamage {
    /// Offset of the first byte that does not fit.
    pub at: usize,
}

/// Cuts a run of rows into single rows, checking the shape of each.
///
/// # Errors
/// [`RowDamage`], once, where the bytes stop being rows.
pub fn split(rows: &[u8]) -> impl Iterator<Item = Result<&[u8], RowDamage>> {
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
                Some(Err(RowDamage { at: start }))
            }
        }
    })
}

/// Where the row that starts at `start` ends; `None` when there is no well-shaped row.
fn row_end(rows: &[u8], start: usize) -> Option<usize> {
    let fixed = rows.get(start..start + FIXED_BYTES)?;
    let widths = [(2, 8_i32), (14, 8), (26, 16), (46, 8)];
    let shaped = fixed[..2] == FIELD_COUNT.to_be_bytes()
        && widths.iter().all(|&(at, width)| fixed[at..at + 4] == width.to_be_bytes());
    let time = i64::from_be_bytes(fixed[TIMESTAMP_AT..TIMESTAMP_AT + 8].try_into().ok()?);
    let is_time = matches!(time, i64::MIN | FIRST_TIME..=LAST_TIME | i64::MAX);
    if !shaped || !is_time {
        return None;
    }
    let mut at = start + FIXED_BYTES;
    for field in 4..FIELD_COUNT {
        let length = i32::from_be_bytes(rows.get(at..at + 4)?.try_into().ok()?);
        at += 4;
        match usize::try_from(length) {
            Ok(bytes) => {
                let value = rows.get(at..at.checked_add(bytes)?)?;
                // PostgreSQL has no data error for this, only one that looks like a fault of its own.
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

/// The key of a row that [`split`] has yielded. Ordered as the primary key of `events` is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RowKey {
    /// `project_id`.
    pub project: ProjectId,
    /// `timestamp`, microseconds since 1970.
    pub timestamp_us: i64,
    /// `event_id`.
    pub event_id: Uuid,
}

/// A text of a row is not UTF-8. The row must not be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid byte sequence for encoding UTF8 (column {column})")]
pub struct NotText {
    /// The column.
    pub column: &'static str,
}

impl<'a> Row<'a> {
    /// Reads a row that [`split`] has yielded; what [`Row::write`] has written comes back equal. That JSON is JSON is not
    /// looked at again.
    ///
    /// # Errors
    /// [`NotText`].
    pub fn read(row: &'a [u8]) -> Result<Self, NotText> {
        let mut rest = &row[FIXED_BYTES..];
        let mut text = |column| {
            let field = next_field(&mut rest);
            field.map(|bytes| std::str::from_utf8(bytes).map_err(|_| NotText { column })).transpose()
        };
        // The version byte is ASCII, so that it can be cut off a text.
        let json = |text: &'a str| &text.as_bytes()[1..];
        Ok(Self {
            project: project(row),
            time: time(row),
            event_id: event_id(row),
            name: text("name")?.expect("a split row has a name"),
            subject: text("subject")?,
            client_id: text("client_id")?,
            properties: text("properties")?.map(json),
            context: text("context")?.map(json),
        })
    }
}

/// Takes the next field of variable width; `None` is NULL.
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk().expect("a split row holds the length of every field");
    *rest = behind;
    let bytes = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    let (field, behind) = rest.split_at(bytes);
    *rest = behind;
    Some(field)
}

fn fixed<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    row[at..at + N].try_into().expect("a split row holds all fixed fields")
}

/// The project of a row that [`split`] has yielded.
pub fn project(row: &[u8]) -> ProjectId {
    ProjectId(i64::from_be_bytes(fixed(row, PROJECT_AT)))
}

/// The time of a row that [`split`] has yielded, as it was written.
pub fn time(row: &[u8]) -> EventTime {
    EventTime::from_wire(i64::from_be_bytes(fixed(row, TIMESTAMP_AT)))
}

/// The identity of a row that [`split`] has yielded.
pub fn event_id(row: &[u8]) -> Uuid {
    Uuid::from_bytes(fixed(row, EVENT_ID_AT))
}

/// The key a row has in `events` when it was received at `received_us` (microseconds since 1970).
pub fn key(row: &[u8], received_us: i64) -> RowKey {
    let timestamp_us = match time(row) {
        EventTime::At(us) => us,
        EventTime::Undated | EventTime::Anonymous => received_us,
    };
    RowKey { project: project(row), timestamp_us, event_id: event_id(row) }
}

/// Appends the row to `out` with its receive time, and with that as its timestamp when it is undated.
pub fn write_stamped(row: &[u8], received_us: i64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(row);
    let wire = (received_us - POSTGRES_EPOCH_US).to_be_bytes();
    out[start + RECEIVED_AT..start + RECEIVED_AT + 8].copy_from_slice(&wire);
    if !matches!(time(row), EventTime::At(_)) {
        out[start + TIMESTAMP_AT..start + TIMESTAMP_AT + 8].copy_from_slice(&wire);
    }
}
