//! The load generator: batches of events that never repeat (unless they shall), over connections that stay open.
//!
//! It shares the machine with what it measures, so it is made to need little of it: requests are written once and only
//! their ids and times are renewed, connections are raw sockets, and each thread works for itself and is asked for its
//! results at the end. What it took of the processor is among the results.
//!
//! What this room must never do: know what it talks to, measure a request of a fixed rate from any other moment than
//! the one it was due at, or leave a request without an answer uncounted.

mod answer;
mod client;
mod clock;
mod connection;
mod generator;
mod identity;
mod request;
mod tally;
mod timer;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

pub use self::clock::now_us;
pub use self::generator::{Measured, Valve, start};
pub use self::identity::Identities;
pub use self::request::{Marked, batch_json};
pub use self::tally::{Latency, Live, Tally};

const DAY_US: i64 = 86_400_000_000;

/// What is sent, where, how, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// Who it is sent to.
    pub target: Target,
    /// What a batch looks like.
    pub shape: Shape,
    /// Connections open at once, each with one request under way at most.
    pub connections: usize,
    /// When requests are sent.
    pub pace: Pace,
    /// Time before anything is measured.
    pub warm_up: Duration,
    /// Time that is measured.
    pub window: Duration,
}

/// Who takes the batches.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// What stands behind `Bearer`.
    pub key: String,
    /// Whole days between today and the day on which events are said to happen.
    pub days_ago: u32,
}

impl Target {
    /// The same in microseconds.
    fn days_ago_us(&self) -> i64 {
        i64::from(self.days_ago) * DAY_US
    }
}

/// What a batch looks like.
#[derive(Clone, PartialEq, Debug)]
pub struct Shape {
    /// Events in it.
    pub events: RangeInclusive<usize>,
    /// The share of events that were accepted before, in another batch.
    pub duplicates: f64,
}

/// When requests are sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// Each connection sends the next as soon as the last is answered: how much is taken?
    Closed,
    /// Requests are due at fixed times, whatever became of the ones before: how long does one take? Clients do not slow
    /// down because a server does, so the time that a request could not be sent counts as time it took.
    Fixed {
        /// In all, over all connections.
        requests_per_s: f64,
    },
}
