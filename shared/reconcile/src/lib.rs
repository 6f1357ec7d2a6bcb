//! Keeps the stream and the store consistent with each other.
//!
//! [`epoch`] detects a stream that has lost its data and rebuilds its counters from the ledger, as
//! [`verdict`] decides. [`keeper`] does so periodically, checks the stream's durability, remembers whether
//! the stream had replicas, and records all of it in [`health`]. [`audit`] checks that every accepted event
//! is stored, a duplicate, dead-lettered or pending, and [`limit_audit`] that limits of customers are charged
//! for them alone. [`quota`] counts the projects that are near the end of their month's quota. [`readiness`]
//! is what a process tells about itself.
//! [`shards`] changes the number of shards.
//!
//! This crate must never be on the path of a batch, settle an entry, or write an event.

pub mod audit;
pub mod epoch;
pub mod health;
pub mod keeper;
pub mod limit_audit;
mod loss;
pub mod metrics;
pub mod quota;
pub mod readiness;
mod replicas;
pub mod shards;
mod shared_incident;
pub mod verdict;
