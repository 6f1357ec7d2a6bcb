//! The drills, by what they hit.

mod combined;
pub(crate) mod data;
mod disk;
mod operations;
mod poison;
mod postgres;
mod wires;
mod worker;

use crate::matrix::Row;

/// All of them, in the order of the table.
pub(crate) const ALL: &[&[Row]] =
    &[worker::ROWS, postgres::ROWS, disk::ROWS, wires::ROWS, data::ROWS, operations::ROWS, combined::ROWS];
