//! How a process is seen from outside: its metrics, the listener that serves them, its logs, and the signal to stop.
//!
//! Nothing here knows what an event, a stream or a store is: each crate declares the metrics it records.

pub mod metrics;
pub mod process;
pub mod scrape;
