//! The stream of admitted batches: durable, and not yet in the store.
//!
//! [`Stream`] and [`Reader`] are the contract. [`redis`] implements it on Redis Streams. [`embedded`]
//! implements it on one SQLite file, for a process that is API and worker together. The conformance suite in
//! `tests/stream/suite` uses the traits alone, and every implementation must pass it.
//!
//! An implementation must never answer [`Decision::Admitted`] before the batch is on disk, charge a batch
//! that it does not append, drop an entry that was not settled, or refund an entry twice.

mod admission;
mod contract;
mod delivery;
mod durability;
pub mod embedded;
mod error;
pub mod metrics;
pub mod redis;
mod witness;

pub use millrace_event::{
    AcknowledgedBatch, BatchId, EntryId, Epoch, Outcome, PendingBatch, ProjectCounters,
};

pub use self::admission::{Admission, BatchState, Decision};
pub use self::contract::{Reader, SharedStream, Stream};
pub use self::delivery::{Backlog, Delivery, SettledBatch, Settlement, TakeOver};
pub use self::durability::{Durability, DurabilityReport};
pub use self::error::StreamError;
pub use self::witness::Witness;
