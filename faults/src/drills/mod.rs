//! The drills, by what they hit.

mod combined;
mod disk;
mod operations;
mod postgres;
mod worker;

use crate::matrix::Row;

/// All of them, in the order of the table.
pub(crate) const ALL: &[&[Row]] = &[worker::ROWS, postgres::ROWS, disk::ROWS, operations::ROWS, combined::ROWS];
