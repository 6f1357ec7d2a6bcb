//! Events, from the bytes that a client sent to the entry that is appended to the stream.
//!
//! The path of one event through this crate:
//!
//! 1. A [`dialect`] turns a request body into a batch of rows. The only validator, `dialect/validator.rs`,
//!    rejects each event that PostgreSQL would not store.
//! 2. A [`row`] is an event in PostgreSQL's binary COPY format. After this step, bytes are moved and never
//!    parsed again.
//! 3. An [`entry`] is one compressed batch of rows, in the form the stream holds.
//!
//! [`plan`] decides how much a project may send, [`policy`] holds its owner's choices, and [`web_origin`]
//! names the pages that may use a key. [`limit`] holds how much a customer may use. [`key`] makes and checks
//! API keys, and [`webhook`] reads addresses of webhooks and signs messages. [`accounting`] holds the figures
//! that stream and store exchange about batches. [`excerpt`] cuts texts of clients and masks keys in them,
//! and [`printable`] escapes such texts for people.
//!
//! This crate must never do I/O, read a clock, or depend on an async runtime.

pub mod accounting;
mod batch_group;
pub mod dialect;
pub mod entry;
pub mod event;
pub mod excerpt;
pub mod json;
pub mod key;
pub mod limit;
pub mod meter;
pub mod plan;
pub mod policy;
pub mod printable;
pub mod row;
pub mod undeliverable;
pub mod web_origin;
pub mod webhook;

pub use accounting::{AcknowledgedBatch, Epoch, Outcome, PendingBatch, ProjectCounters};
pub use batch_group::BatchGroup;
pub use entry::EntryId;
pub use event::BatchId;
