//! Keeps the stream and the store consistent with each other.
//!
//! [`epoch`] detects a stream that has lost its data and rebuilds its counters from the ledger. [`keeper`]
//! does so periodically, checks the stream's durability, and records both in [`health`]. [`audit`] checks
//! that every accepted event is stored, a duplicate, dead-lettered or pending. [`quota`] counts the projects
//! that are near the end of their month's quota. [`shards`] changes the number of shards.
//!
//! This crate must never be on the path of a batch, settle an entry, or write an event.

pub mod audit;
pub mod epoch;
pub mod health;
pub mod keeper;
pub mod metrics;
pub mod quota;
pub mod shards;
