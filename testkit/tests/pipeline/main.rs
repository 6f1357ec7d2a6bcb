//! The whole pipeline with real processes: an event acknowledged with 2xx is stored once and metered once.
//! The drills cover faults.

mod customer_limits;
mod flow;
mod limits;
mod poison;
mod redrive;
mod stack;
mod undeliverable;
