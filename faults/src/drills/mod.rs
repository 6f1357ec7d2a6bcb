//! The drills, by what they hit.

mod clock;
mod combined;
pub(crate) mod data;
mod disk;
mod operations;
mod poison;
mod postgres;
mod redis;
mod redis_disk;
mod wires;
mod worker;

use crate::matrix::Row;

/// All of them, in the order of the table.
pub(crate) const ALL: &[&[Row]] = &[
    worker::ROWS,
    redis::ROWS,
    redis_disk::ROWS,
    postgres::ROWS,
    disk::ROWS,
    wires::ROWS,
    clock::ROWS,
    data::ROWS,
    operations::ROWS,
    combined::ROWS,
];
