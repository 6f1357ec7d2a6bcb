//! Parses replies. Payloads are moved, never copied. A reply of an unexpected shape is
//! [`StreamError::Refused`]: it means a bug, or a server that is not Redis.

use bytes::Bytes;
use redis::Value;
use uuid::Uuid;

use crate::{Delivery, EntryId, PendingBatch, StreamError};
use millrace_event::entry::{PackedEntry, VERSION, batches_of_table};
use millrace_event::plan::{LimitState, ProjectId};

fn unexpected(expected: &str) -> StreamError {
    StreamError::Refused(format!("a reply of Redis is not {expected}"))
}

/// The elements of an array; nil is an empty array.
pub(super) fn array(value: Value) -> Result<Vec<Value>, StreamError> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(unexpected("an array")),
    }
}

/// An array of exactly `N` elements.
pub(super) fn tuple<const N: usize>(value: Value) -> Result<[Value; N], StreamError> {
    array(value)?.try_into().map_err(|_| unexpected("an array of the expected length"))
}

pub(super) fn bytes(value: Value) -> Result<Bytes, StreamError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        Value::SimpleString(text) => Ok(text.into()),
        Value::Okay => Ok(Bytes::from_static(b"OK")),
        _ => Err(unexpected("a string")),
    }
}

/// `None` for nil.
pub(super) fn optional_bytes(value: Value) -> Result<Option<Bytes>, StreamError> {
    if value == Value::Nil { Ok(None) } else { bytes(value).map(Some) }
}

pub(super) fn text(value: Value) -> Result<String, StreamError> {
    String::from_utf8(bytes(value)?.into()).map_err(|_| unexpected("text"))
}

/// An integer, or a string of decimal digits; nil is 0.
pub(super) fn integer(value: Value) -> Result<i64, StreamError> {
    match value {
        Value::Int(number) => Ok(number),
        Value::Nil => Ok(0),
        other => text(other)?.parse().map_err(|_| unexpected("an integer")),
    }
}

/// An integer that is never negative; nil is 0.
pub(super) fn unsigned(value: Value) -> Result<u64, StreamError> {
    u64::try_from(integer(value)?).map_err(|_| unexpected("an unsigned integer"))
}

/// A small integer that is never negative; nil is 0.
pub(super) fn small(value: Value) -> Result<u32, StreamError> {
    u32::try_from(integer(value)?).map_err(|_| unexpected("a small unsigned integer"))
}

/// `<ms>-<seq>`.
pub(super) fn entry_id(value: Value) -> Result<EntryId, StreamError> {
    let text = text(value)?;
    let (ms, seq) = text.split_once('-').ok_or_else(|| unexpected("an entry id"))?;
    match (ms.parse(), seq.parse()) {
        (Ok(ms), Ok(seq)) => Ok(EntryId { ms, seq }),
        _ => Err(unexpected("an entry id")),
    }
}

/// An entry as XREADGROUP and XAUTOCLAIM return it.
pub(super) struct StreamEntry {
    pub(super) id: EntryId,
    /// `None` when the entry is no longer in the stream.
    pub(super) fields: Option<Vec<(Bytes, Bytes)>>,
}

/// `[id, [field, value, …]]` or `[id, nil]`.
pub(super) fn entry(value: Value) -> Result<StreamEntry, StreamError> {
    let [id, fields] = tuple(value)?;
    let id = entry_id(id)?;
    if fields == Value::Nil {
        return Ok(StreamEntry { id, fields: None });
    }
    let mut fields = array(fields)?.into_iter();
    let mut pairs = Vec::with_capacity(fields.len() / 2);
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        pairs.push((bytes(name)?, bytes(value)?));
    }
    Ok(StreamEntry { id, fields: Some(pairs) })
}

pub(super) fn delivery(id: EntryId, fields: &[(Bytes, Bytes)], delivered: u32) -> Delivery {
    Delivery { id, delivered, entry: PackedEntry::from_fields(fields) }
}

/// `now_us`, `tat_us` and `used`, as the scripts return them.
pub(super) fn limit_state(now_us: Value, tat_us: Value, used: Value) -> Result<LimitState, StreamError> {
    Ok(LimitState { now_us: unsigned(now_us)?, tat_us: unsigned(tat_us)?, used: unsigned(used)? })
}

/// The batches of an entry, from a row of pending.lua. An entry that names no batch was never admitted, so
/// nothing of it is counted: it is one batch whose id, project and count are nil and 0.
pub(super) fn pending_batches(value: Value) -> Result<Vec<PendingBatch>, StreamError> {
    let [id, version, admitted, table, batch_id, project, count, size] = tuple(value)?;
    let (id, bytes_of_rows) = (entry_id(id)?, small(size)?);
    if bytes(version)? == VERSION {
        let batches = batches_of_table(&bytes(table)?, Some(&bytes(admitted)?)).unwrap_or_default();
        if !batches.is_empty() {
            return Ok(PendingBatch::of_entry(id, &batches, bytes_of_rows));
        }
    }
    let unnamed =
        PendingBatch { id, batch_id: Uuid::nil(), project: ProjectId(0), count: 0, bytes: bytes_of_rows };
    let Ok(batch_id) = Uuid::from_slice(&bytes(batch_id)?) else { return Ok(vec![unnamed]) };
    let decimal = |value: Value| bytes(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (project, count) = (decimal(project)?, decimal(count)?);
    let project = ProjectId(project.parse().unwrap_or(0));
    Ok(vec![PendingBatch { batch_id, project, count: count.parse().unwrap_or(0), ..unnamed }])
}
