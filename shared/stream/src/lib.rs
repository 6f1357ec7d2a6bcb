//! The first place an event can be: the stream of admitted batches that are not stored yet.
//!
//! [`Stream`] and [`Reader`] are the contract. [`redis`] implements it on Redis Streams; [`embedded`] implements it on a SQLite
//! file, for one process that is API and worker at the same time. The conformance suite in `tests/stream/` is written
//! against the traits alone, and every implementation must pass it.
//!
//! What an implementation must never do: answer [`Decision::Admitted`] before the batch is on disk, charge a batch
//! that it does not append, drop an entry that was not settled, or refund twice.

mod admission;
mod contract;
mod delivery;
pub mod embedded;
mod error;
pub mod metrics;
pub mod redis;

pub use millrace_event::{BatchId, EntryId, Epoch, Outcome, PendingBatch, ProjectCounters};

pub use self::admission::{Admission, BatchState, Decision};
pub use self::contract::{Reader, SharedStream, Stream};
pub use self::delivery::{Backlog, Delivery, Settlement, TakeOver};
pub use self::error::StreamError;
