//! The framing of rows in PostgreSQL's binary COPY format, and timestamps as parameters.
//!
//! Source of the format: PostgreSQL documentation, "COPY", "Binary Format". [`millrace_event::row`] writes
//! the rows.

use std::error::Error;

use bytes::{BufMut, Bytes, BytesMut};
use millrace_event::row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::JsonColumns;

/// Signature, flags (none), length of the header extension (none).
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A field count of -1 ends the data.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Size of one message: large enough that its overhead does not matter, small enough to stay in the cache.
const CHUNK_BYTES: usize = 128 << 10;
/// PostgreSQL counts microseconds from 2000-01-01.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// Collects rows into messages of about [`CHUNK_BYTES`].
#[derive(Debug)]
pub(super) struct Chunks {
    columns: JsonColumns,
    filling: Vec<u8>,
    rows: u64,
}

impl Chunks {
    /// For a table whose JSON columns have this type.
    pub(super) fn new(columns: JsonColumns) -> Self {
        let mut filling = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
        filling.extend_from_slice(HEADER);
        Self { columns, filling, rows: 0 }
    }

    /// Adds a row with its receive time, microseconds since 1970. Returns a chunk when one is full.
    pub(super) fn push(&mut self, row: &[u8], received_us: i64) -> Option<Bytes> {
        match self.columns {
            JsonColumns::Jsonb => row::write_stamped(row, received_us, &mut self.filling),
            JsonColumns::Json => row::write_stamped_for_json(row, received_us, &mut self.filling),
        }
        self.rows += 1;
        if self.filling.len() < CHUNK_BYTES {
            return None;
        }
        let next = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
        Some(std::mem::replace(&mut self.filling, next).into())
    }

    /// The last chunk, and the number of rows in all chunks.
    pub(super) fn finish(mut self) -> (Bytes, u64) {
        self.filling.extend_from_slice(&TRAILER);
        (self.filling.into(), self.rows)
    }
}

/// Microseconds since 1970, converted to and from `timestamptz` without a calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Instant(pub(super) i64);

impl From<time::OffsetDateTime> for Instant {
    fn from(moment: time::OffsetDateTime) -> Self {
        Self(i64::try_from(moment.unix_timestamp_nanos() / 1_000).expect("years up to 9999 fit"))
    }
}

impl From<Instant> for time::OffsetDateTime {
    /// Times after the year 9999 become the end of that year.
    fn from(moment: Instant) -> Self {
        time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(moment.0) * 1_000)
            .unwrap_or(time::PrimitiveDateTime::MAX.assume_utc())
    }
}

impl ToSql for Instant {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0.saturating_sub(POSTGRES_EPOCH_US));
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Instant {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(POSTGRES_EPOCH_US)))
    }

    accepts!(TIMESTAMPTZ);
}
