//! Taking replies apart. Payloads are moved, never copied. Whatever does not have the promised shape is
//! [`StreamError::Refused`]: a defect of ours or another server than we think.

use bytes::Bytes;
use redis::Value;
use uuid::Uuid;

use crate::{Delivery, EntryId, PendingBatch, StreamError};
use millrace_event::entry::PackedBatch;
use millrace_event::plan::ProjectId;

fn misshapen(expected: &str) -> StreamError {
    StreamError::Refused(format!("a reply is not {expected}"))
}

/// The elements of an array; nil is none.
pub(super) fn array(value: Value) -> Result<Vec<Value>, StreamError> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(misshapen("an array")),
    }
}

/// Exactly `N` elements.
pub(super) fn tuple<const N: usize>(value: Value) -> Result<[Value; N], StreamError> {
    array(value)?.try_into().map_err(|_| misshapen("an array of the expected length"))
}

/// The bytes of a string.
pub(super) fn bytes(value: Value) -> Result<Bytes, StreamError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        Value::SimpleString(text) => Ok(text.into()),
        Value::Okay => Ok(Bytes::from_static(b"OK")),
        _ => Err(misshapen("a string")),
    }
}

/// The text of a string.
pub(super) fn text(value: Value) -> Result<String, StreamError> {
    String::from_utf8(bytes(value)?.into()).map_err(|_| misshapen("text"))
}

/// An integer, as such or in decimal; nil is 0.
pub(super) fn integer(value: Value) -> Result<i64, StreamError> {
    match value {
        Value::Int(number) => Ok(number),
        Value::Nil => Ok(0),
        other => text(other)?.parse().map_err(|_| misshapen("an integer")),
    }
}

/// An integer that is never negative; nil is 0.
pub(super) fn unsigned(value: Value) -> Result<u64, StreamError> {
    u64::try_from(integer(value)?).map_err(|_| misshapen("an unsigned integer"))
}

/// A small integer that is never negative; nil is 0.
pub(super) fn small(value: Value) -> Result<u32, StreamError> {
    u32::try_from(integer(value)?).map_err(|_| misshapen("a small unsigned integer"))
}

/// `<ms>-<seq>`.
pub(super) fn entry_id(value: Value) -> Result<EntryId, StreamError> {
    let text = text(value)?;
    let (ms, seq) = text.split_once('-').ok_or_else(|| misshapen("an entry id"))?;
    match (ms.parse(), seq.parse()) {
        (Ok(ms), Ok(seq)) => Ok(EntryId { ms, seq }),
        _ => Err(misshapen("an entry id")),
    }
}

/// An entry as XREADGROUP and XAUTOCLAIM give it; without fields when it is no longer in the stream.
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) fields: Option<Vec<(Bytes, Bytes)>>,
}

/// `[id, [field, value, …]]` or `[id, nil]`.
pub(super) fn entry(value: Value) -> Result<Entry, StreamError> {
    let [id, fields] = tuple(value)?;
    let id = entry_id(id)?;
    if fields == Value::Nil {
        return Ok(Entry { id, fields: None });
    }
    let mut fields = array(fields)?.into_iter();
    let mut pairs = Vec::with_capacity(fields.len() / 2);
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        pairs.push((bytes(name)?, bytes(value)?));
    }
    Ok(Entry { id, fields: Some(pairs) })
}

/// An entry that is there, handed out for the `delivered`th time.
pub(super) fn delivery(id: EntryId, fields: &[(Bytes, Bytes)], delivered: u32) -> Delivery {
    Delivery { id, delivered, packed: PackedBatch::from_fields(fields) }
}

/// A row of pending.lua. An entry without a name was never admitted, and nothing it says of itself is counted: it is
/// nil and 0 throughout, as in its settlement.
pub(super) fn pending_batch(value: Value) -> Result<PendingBatch, StreamError> {
    let [id, batch_id, project, count, size] = tuple(value)?;
    let id = entry_id(id)?;
    let bytes_of_rows = small(size)?;
    let Ok(batch_id) = Uuid::from_slice(&bytes(batch_id)?) else {
        return Ok(PendingBatch {
            id,
            batch_id: Uuid::nil(),
            project: ProjectId(0),
            count: 0,
            bytes: bytes_of_rows,
        });
    };
    let decimal = |value: Value| bytes(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(PendingBatch {
        id,
        batch_id,
        project: ProjectId(decimal(project)?.parse().unwrap_or(0)),
        count: decimal(count)?.parse().unwrap_or(0),
        bytes: bytes_of_rows,
    })
}
