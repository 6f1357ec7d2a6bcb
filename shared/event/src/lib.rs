//! What an event is, from the bytes a client sent to the entry that is appended to the stream.
//!
//! The path of one event through this crate:
//!
//! 1. A [`dialect`] turns a request body into a batch of rows. The one validator, `dialect/reader.rs`, refuses each event that
//!    PostgreSQL would not store.
//! 2. A [`row`] is an event in PostgreSQL's binary COPY format. After this step bytes are moved and nothing is parsed.
//! 3. An [`entry`] is one batch of rows, compressed, as the stream holds it.
//!
//! [`plan`] decides what a project may send, [`key`] is how a project is recognized, and [`accounting`] has the figures that the
//! stream and the store exchange about batches.
//!
//! Nothing here does I/O, reads a clock or depends on an async runtime.

pub mod accounting;
pub mod dialect;
pub mod entry;
pub mod event;
pub mod json;
pub mod key;
pub mod plan;
pub mod row;

pub use accounting::{Epoch, Outcome, PendingBatch, ProjectCounters};
pub use entry::EntryId;
pub use event::BatchId;
