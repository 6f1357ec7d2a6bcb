//! Reports results: as a JSON file, as tables on standard output, and as a Markdown page with charts.
//!
//! Must never: round a number so that a missed goal looks reached, or leave out a missed goal.

mod chart;
mod charts;
mod file;
mod goals;
mod medians;
mod numbers;
mod page;
mod progress;
mod repetitions;
mod summary;
mod tables;
mod text_table;

pub use self::file::{read, save};
pub use self::page::write_page;
pub use self::progress::{ceiling_line, measurement_line};
pub use self::summary::summary;
