//! Measures one part of a scenario on one subject: rates, latency, freshness, processor time, memory and
//! sizes.

mod monitor;
mod part;
mod pending;
mod probe;
mod timeline;

pub use self::part::{Title, measure_part};
pub use self::pending::measure_pending;
