//! What this process refuses, for the owners of projects: counts by hour and reason, and samples.
//!
//! A `collector` gathers them in memory, `excerpt` cuts the samples, `flush` writes them to the store every
//! few seconds, and `report` answers `GET /v1/rejections` from the store.
//!
//! This module must never let a request wait for the store, grow with what clients send, or keep the text of
//! a key. Counts are kept while the store is down; a process that is killed loses those of its last seconds.

mod collector;
mod excerpt;
mod flush;
mod query;
mod report;

pub use collector::Collector;
pub use excerpt::{Excerpt, of_body, of_events};
pub use flush::{flush_rest, keep_flushing};
pub use report::get;
