//! A batch as one entry of the stream. Encoding and decoding stand side by side and are versioned.
//!
//! Fields of an entry, version 1, for anyone who reads the stream with a consumer group of their own:
//!
//! | field | value |
//! |---|---|
//! | `v` | `1` |
//! | `b` | batch id, 16 bytes |
//! | `p` | project id, decimal |
//! | `n` | number of events, decimal |
//! | `u` | bytes of `d` before compression, decimal |
//! | `d` | one zstd frame with checksum; in it `n` rows as [`crate::row`] describes them, nothing else |
//!
//! The receive time is not in the entry: it is the milliseconds of the entry's own id. No I/O in this room.

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;
use uuid::Uuid;

use crate::event::{BatchId, derived_uuid};
use crate::plan::ProjectId;
use crate::row;

/// The version this build writes. It reads this one and no other.
pub const VERSION: &str = "1";
/// The largest run of rows an entry may hold, before compression: four times the largest body the API takes, because
/// a row can be longer than the JSON it came from.
pub const ROWS_BYTES_MAX: usize = 64 << 20;
/// Events that fit into so many bytes: a count above is no count.
const EVENTS_MAX: u32 = (ROWS_BYTES_MAX / row::BYTES_MIN) as u32;
/// The first of the fast levels, which leave literals as they are. It makes entries as small as level 1 does, 4-8 times smaller
/// than their rows, and takes a fifth of its time for one event (1.4 µs instead of 6.3, packed and unpacked), two thirds for
/// two hundred.
const ZSTD_LEVEL: i32 = -1;

thread_local! {
    static COMPRESSOR: RefCell<zstd::bulk::Compressor<'static>> = RefCell::new(new_compressor());
    // Making one costs more than unpacking a small batch with it.
    static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> =
        RefCell::new(zstd::bulk::Decompressor::new().expect("memory for a decompressor"));
}

fn new_compressor() -> zstd::bulk::Compressor<'static> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("the level exists");
    compressor.include_checksum(true).expect("a checksum can be asked for");
    compressor
}

/// A batch as it stands in the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackedBatch {
    /// Its name.
    pub batch_id: BatchId,
    /// Whose it is.
    pub project: ProjectId,
    /// Events in it.
    pub count: u32,
    /// Bytes of its rows before compression.
    pub rows_bytes: u32,
    /// The compressed rows.
    pub data: Bytes,
}

/// An entry's place in its stream, and with it the moment it was received.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct EntryId {
    /// Milliseconds since 1970 on the stream's clock, never going back within one stream.
    pub ms: u64,
    /// Counts entries of one millisecond.
    pub seq: u64,
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// What is wrong with an entry, and what could still be read of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Damage {
    /// For operators.
    pub reason: String,
    /// When it could be read.
    pub batch_id: Option<BatchId>,
    /// When it could be read.
    pub project: Option<ProjectId>,
    /// When it could be read.
    pub count: Option<u32>,
    /// The field `d` when there is one, otherwise all fields one after the other.
    pub raw: Bytes,
}

impl PackedBatch {
    /// Compresses `count` rows into an entry.
    ///
    /// # Panics
    /// When the rows are larger than [`ROWS_BYTES_MAX`]; the limits on bodies exclude that.
    pub fn pack(batch_id: BatchId, project: ProjectId, count: u32, rows: &[u8]) -> Self {
        assert!(rows.len() <= ROWS_BYTES_MAX, "the body limit bounds the rows");
        let data = COMPRESSOR.with_borrow_mut(|zstd| zstd.compress(rows)).expect("memory can be compressed");
        let rows_bytes = u32::try_from(rows.len()).expect("bounded above");
        Self { batch_id, project, count, rows_bytes, data: data.into() }
    }

    /// The entry's fields, in the order they are written.
    pub fn fields(&self) -> [(&'static str, Bytes); 6] {
        let decimal = |number: i64| Bytes::from(itoa::Buffer::new().format(number).to_owned());
        [
            ("v", Bytes::from_static(VERSION.as_bytes())),
            ("b", Bytes::copy_from_slice(self.batch_id.as_bytes())),
            ("p", decimal(self.project.0)),
            ("n", decimal(i64::from(self.count))),
            ("u", decimal(i64::from(self.rows_bytes))),
            ("d", self.data.clone()),
        ]
    }

    /// Reads an entry's fields. Unknown fields are passed over.
    ///
    /// # Errors
    /// [`Damage`] when the version is not ours or a field is missing or malformed.
    pub fn from_fields(fields: &[(Bytes, Bytes)]) -> Result<Self, Damage> {
        let find =
            |name: &str| fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value);
        let batch_id = find("b").and_then(|value| Uuid::from_slice(value).ok());
        let project = find("p").and_then(decimal::<i64>).map(ProjectId);
        let count = find("n").and_then(decimal::<u32>).filter(|count| *count <= EVENTS_MAX);
        let rows_bytes = find("u").and_then(decimal::<u32>);
        let data = find("d").cloned();
        let damage = |reason: String| Damage {
            reason,
            batch_id,
            project,
            count,
            raw: data.clone().unwrap_or_else(|| all_fields(fields)),
        };
        match find("v") {
            Some(version) if version == VERSION.as_bytes() => {}
            Some(version) => {
                let shown = String::from_utf8_lossy(&version[..version.len().min(20)]);
                return Err(damage(format!("entry version {shown:?} is not {VERSION:?}")));
            }
            None => return Err(damage("the entry has no field v".to_owned())),
        }
        match (batch_id, project, count, rows_bytes, data.clone()) {
            (Some(batch_id), Some(project), Some(count), Some(rows_bytes), Some(data)) => {
                Ok(Self { batch_id, project, count, rows_bytes, data })
            }
            _ => Err(damage("a field of b, p, n, u, d is missing or malformed".to_owned())),
        }
    }

    /// The rows, checked: as many as promised, well shaped, all of this project.
    ///
    /// # Errors
    /// [`Damage`] when the bytes are not what [`PackedBatch::pack`] makes.
    pub fn unpack(&self) -> Result<Bytes, Damage> {
        let rows_bytes = self.rows_bytes as usize;
        if rows_bytes > ROWS_BYTES_MAX {
            return Err(self.damage(format!("{rows_bytes} bytes of rows are over {ROWS_BYTES_MAX}")));
        }
        let rows = DECOMPRESSOR
            .with_borrow_mut(|zstd| zstd.decompress(&self.data, rows_bytes))
            .map_err(|error| self.damage(format!("the rows do not decompress: {error}")))?;
        if rows.len() != rows_bytes {
            return Err(self.damage(format!("{} bytes of rows, {rows_bytes} promised", rows.len())));
        }
        check_rows(self.project, self.count, &rows).map_err(|reason| self.damage(reason))?;
        Ok(rows.into())
    }

    fn damage(&self, reason: String) -> Damage {
        Damage {
            reason,
            batch_id: Some(self.batch_id),
            project: Some(self.project),
            count: Some(self.count),
            raw: self.data.clone(),
        }
    }
}

/// The rows of an entry of which only the field `d` is left, as it is of one in the dead letters. Checked as
/// [`PackedBatch::unpack`] does.
///
/// # Errors
/// What is wrong with it, for operators.
pub fn unpack_dead(project: ProjectId, count: u32, data: &[u8]) -> Result<Vec<u8>, String> {
    let mut rows = Vec::new();
    // How much there will be stands in a field that is not left, so it is found out within the limit.
    zstd::stream::read::Decoder::new(data)
        .and_then(|decoder| decoder.take(ROWS_BYTES_MAX as u64 + 1).read_to_end(&mut rows))
        .map_err(|error| format!("the rows do not decompress: {error}"))?;
    if rows.len() > ROWS_BYTES_MAX {
        return Err(format!("over {ROWS_BYTES_MAX} bytes of rows"));
    }
    check_rows(project, count, &rows)?;
    Ok(rows)
}

fn check_rows(project: ProjectId, count: u32, rows: &[u8]) -> Result<(), String> {
    let mut found = 0_u32;
    for row in row::split(rows) {
        let owner = row::project(row.map_err(|error| error.to_string())?);
        if owner != project {
            return Err(format!("row {found} belongs to project {owner}"));
        }
        found += 1;
    }
    if found != count {
        return Err(format!("{found} rows, {count} promised"));
    }
    Ok(())
}

fn decimal<T: std::str::FromStr>(value: &Bytes) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn all_fields(fields: &[(Bytes, Bytes)]) -> Bytes {
    let mut all = Vec::new();
    for (name, value) in fields {
        all.extend_from_slice(name);
        all.push(b'=');
        all.extend_from_slice(value);
        all.push(b'\n');
    }
    all.into()
}

/// The batch id under which the ledger knows an entry that does not tell its own.
pub fn id_of_damaged(shard: u16, entry: EntryId) -> BatchId {
    derived_uuid(&[b"damaged entry", &shard.to_be_bytes(), &entry.ms.to_be_bytes(), &entry.seq.to_be_bytes()])
}
