//! The drills, by what they hit.

mod combined;
pub(crate) mod data;
mod poison;
mod wires;
mod worker;

use crate::matrix::Row;

/// All of them, in the order of the table.
pub(crate) const ALL: &[&[Row]] = &[worker::ROWS, wires::ROWS, data::ROWS, combined::ROWS];
