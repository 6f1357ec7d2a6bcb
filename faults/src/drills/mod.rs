//! The drills, by what they hit.

mod clock;
mod combined;
mod redis;
mod redis_disk;
mod worker;

use crate::matrix::Row;

/// All of them, in the order of the table.
pub(crate) const ALL: &[&[Row]] = &[worker::ROWS, redis::ROWS, redis_disk::ROWS, clock::ROWS, combined::ROWS];
