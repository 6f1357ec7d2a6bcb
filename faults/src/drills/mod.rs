//! The drills, by what they hit.

mod api;
mod client;
mod clock;
mod combined;
pub(crate) mod data;
mod disk;
mod embedded;
mod load;
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
    client::ROWS,
    api::ROWS,
    load::ROWS,
    redis::ROWS,
    redis_disk::ROWS,
    worker::ROWS,
    postgres::ROWS,
    disk::ROWS,
    wires::ROWS,
    clock::ROWS,
    data::ROWS,
    operations::ROWS,
    embedded::ROWS,
    combined::ROWS,
];
