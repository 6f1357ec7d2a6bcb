//! The heart of Millrace: what an event is, and the two places it can be.
//!
//! The path of one event, and what may stop it at each step:
//!
//! 1. A [`dialect`] turns a request body into a batch of rows; what PostgreSQL would not store is refused
//!    here, event by event, by the one validator, `dialect/reader.rs`.
//! 2. The batch becomes one [`entry`] of the stream.
//! 3. [`stream::Stream::admit`] checks backlog, rate and quota ([`plan`]) and appends, in one step.
//! 4. [`stream::Reader`] delivers the entry to a lane, as often as it takes.
//! 5. [`store::Writer::write`] stores events, ledger, usage and dead letters in one transaction.
//! 6. [`stream::Stream::settle`] removes the entry and gives back what was charged for nothing.
//!
//! Nothing in this crate speaks HTTP to clients, and nothing here has a main loop. `plan` imports nothing of ours and
//! `event` only whose an event is; `row`, `json`, `entry` and `dialect` import these; `stream` and `store` import them
//! all; `epoch` and `audit` look at both; nothing points up. `failpoint` and `mutant` are for drills, and nothing at all in an
//! ordinary build.

pub mod audit;
pub mod config;
pub mod dialect;
pub mod entry;
pub mod epoch;
pub mod event;
pub mod failpoint;
pub mod json;
pub mod key;
pub mod metrics;
pub mod mutant;
pub mod plan;
pub mod process;
pub mod quota;
pub mod row;
pub mod scrape;
pub mod store;
pub mod stream;
