//! The limits of an entry.

use crate::row;

/// Batches in one entry, at most.
pub const BATCHES_MAX: usize = 64;
/// The largest size of an entry's rows before compression. It is four times the largest body that the API
/// accepts, because a row can be longer than its JSON.
pub const ROWS_BYTES_MAX: usize = 64 << 20;
/// The number of the shortest rows that fit. A higher count is malformed.
pub(super) const EVENTS_MAX: u32 = (ROWS_BYTES_MAX / row::BYTES_MIN) as u32;
