//! Holds the stream and the store together: epochs, audits, quotas.
//!
//! [`epoch`] notices a stream that has lost its memory and rebuilds its counters from the ledger. [`audit`] checks that every accepted
//! event is stored, a duplicate, dead-lettered or pending. [`quota`] tells how many projects are near the end of their month.
//!
//! Nothing here is on the path of a batch.

pub mod audit;
pub mod epoch;
pub mod metrics;
pub mod quota;
