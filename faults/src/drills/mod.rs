//! The drills, by what they hit.

mod api;
mod client;
mod combined;
mod load;
mod worker;

use crate::matrix::Row;

/// All of them, in the order of the table.
pub(crate) const ALL: &[&[Row]] = &[api::ROWS, client::ROWS, load::ROWS, worker::ROWS, combined::ROWS];
