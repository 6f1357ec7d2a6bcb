//! The operation of a process: its metrics, the listener that serves them, its logs, and the signal to stop.
//!
//! This crate must never depend on events, streams or stores: each crate declares the metrics that it
//! records.

pub mod incident;
pub mod metrics;
pub mod process;
pub mod scrape;
