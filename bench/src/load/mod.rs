//! The load generator: sends batches of events over connections that stay open. Every event is new, unless
//! the load asks for duplicates.
//!
//! It shares the machine with the subject, so it is built to use little of it: each request is written once
//! and only its ids and times are replaced, connections are raw sockets, and threads share nothing but two
//! counters. Its processor time is part of the results.
//!
//! It is separate from `testkit`'s oracle, which creates, posts and records each event by itself to judge
//! correctness. At the rates measured here that would take processor time from the subject.
//!
//! Must never: depend on the subject, measure a request of a fixed rate from another moment than when it was
//! due, or leave a request without an answer uncounted.

mod client;
mod clock;
mod connection;
mod generator;
mod identity;
mod probe_event;
mod request;
mod response;
mod schedule;
mod spec;
mod tally;
mod thread;
mod thread_state;
mod timer;

pub use self::clock::now_us;
pub use self::generator::{Throttle, start};
pub use self::identity::IdGenerator;
pub use self::probe_event::ProbeEvent;
pub use self::request::batch_json;
pub use self::schedule::Schedule;
pub use self::spec::{Load, Pacing, Shape, Target};
pub use self::tally::{LatencyHistogram, LiveCounters, Tally};
