//! The status page, for people. `GET /` is one page that loads nothing from the network. `GET /status/stream`
//! feeds it, by server-sent events.
//!
//! It shows all projects and asks for no key, so `audience` decides who may see it. `state` serves it,
//! `refusals` remembers the last refusals, `sampler` queries the stream and the store while there is a
//! watcher, `progress`, `today` and `rejected` turn the answers into numbers and lines, `snapshot` is their
//! form on the wire, and `feed` sends them to the watchers.
//!
//! This module must never query the stream or the store while there is no watcher, delay a batch, wait for a
//! watcher that does not read, show keys or contents of events, or let a page of another site read the feed.

mod feed;
mod page;
mod progress;
mod refusals;
mod rejected;
mod sampler;
mod snapshot;
mod state;
mod today;

pub use feed::WATCHERS_MAX;
pub use sampler::keep_sampling;
pub use state::Status;
