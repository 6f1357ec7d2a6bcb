//! Meters: figures of the events of a customer, by quarter of an hour.
//!
//! A [`MeterDefinition`] says which events count, and where their value and their groups are. A
//! [`MeterTally`] is what the events of one transaction add. Additions can be merged in any order and in any
//! grouping, and the result is the same: that is why a figure does not depend on how entries are grouped to
//! transactions.
//!
//! This module must never guess: a value that is missing or no number is a [`MeterFault`], and a number is an
//! exact [`Decimal`], never a float.

mod decimal;
mod definition;
mod measure;
mod path;
mod tally;

pub use decimal::Decimal;
pub use definition::{Aggregation, DefinitionError, GROUPS_MAX, Group, Meter, MeterDefinition, MeterId};
pub use measure::{GROUPS_BYTES_MAX, Measure, MeasuredValue, MeterFault, TEXT_BYTES_MAX};
pub use path::{Found, Path, PathError, Source};
pub use tally::{Addition, BUCKET_US, FaultTally, MeterKey, MeterSet, MeterTally, SAMPLE_BYTES_MAX};
