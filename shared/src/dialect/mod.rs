//! From a request body to a batch: one file for each wire format. No I/O in this room.

use crate::event::{Batch, Origin, Rejection};

/// How a body is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `{"events":[…]}`, a bare array, or one event object.
    Native,
    /// One native event object a line (NDJSON).
    NativeLines,
    /// Segment's batch: `{"batch":[…]}`.
    SegmentBatch,
    /// One Segment call, of the type the path names.
    SegmentCall(&'static str),
}

/// Why no batch could be made of a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BodyError {
    /// Not JSON, or not of the dialect's form.
    InvalidJson {
        /// What is wrong, and where.
        message: String,
    },
    /// Well-formed, with no event in it.
    EmptyBatch,
    /// More events than the limit.
    TooManyEvents {
        /// Events in the body.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Events, none of them valid.
    NoValidEvent {
        /// What is wrong with each.
        rejected: Vec<Rejection>,
    },
}

/// Reads a decompressed body. The events that are valid make the batch; those that are not are reported in it.
///
/// # Errors
/// [`BodyError`] when there is no valid event in it.
pub fn read(dialect: Dialect, body: &[u8], origin: Origin, events_max: usize) -> Result<Batch, BodyError> {
    let _ = (dialect, body, origin, events_max);
    unimplemented!("being written")
}

/// The `writeKey` in a Segment body, where SDKs put it that send no `Authorization`.
pub fn segment_write_key(body: &[u8]) -> Option<String> {
    let _ = body;
    unimplemented!("being written")
}
