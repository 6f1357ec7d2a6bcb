//! Reports of meters: what they are, and their figures.
//!
//! `native` and `openmeter` each read the parameters of one interface into a `question`, which the store
//! answers, and write the answer in the form of their interface: as JSON, or as CSV by `table`. Values are
//! exact decimal numbers in both, and never pass through a float.
//!
//! This module must never ask the store for a period or for rows without a bound.

mod figures;
mod limits;
mod native;
pub mod openmeter;
mod pairs;
mod python_dict;
mod question;
mod table;

pub use figures::NOT_FOUND;
pub use limits::limits;
pub use native::{MeterEntry, list, query, show};
pub use question::QuestionError;
