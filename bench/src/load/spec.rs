//! The description of a load.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

const DAY_US: i64 = 86_400_000_000;

/// What is sent, where to, how fast, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    pub target: Target,
    pub shape: Shape,
    /// Connections open concurrently, each with one request in flight at most.
    pub connections: usize,
    pub pacing: Pacing,
    /// Time before the measured window.
    pub warm_up: Duration,
    /// Measured time.
    pub window: Duration,
}

/// The server that receives the batches.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// Sent as bearer token, in turn: one for each project that receives events.
    pub keys: Vec<String>,
    /// Events carry times of the day that was this many whole days ago.
    pub days_ago: u32,
}

impl Target {
    /// A server that receives events of one project, with times of today.
    pub fn new(address: SocketAddr, key: impl Into<String>) -> Self {
        Self { address, keys: vec![key.into()], days_ago: 0 }
    }

    /// The key of the first project.
    pub fn key(&self) -> &str {
        &self.keys[0]
    }

    pub(super) fn days_ago_us(&self) -> i64 {
        i64::from(self.days_ago) * DAY_US
    }
}

/// The content of the batches.
#[derive(Clone, PartialEq, Debug)]
pub struct Shape {
    /// Events per batch.
    pub events: RangeInclusive<usize>,
    /// Share of events, from 0 to 1, that were accepted before in another batch.
    pub duplicates: f64,
    /// How many different events a thread sends, apart from their ids and times, at least. Each is of another
    /// visitor.
    pub distinct: usize,
}

impl Shape {
    /// Enough different events that batches in a row differ.
    pub const DISTINCT: usize = 2_000;

    /// Batches of so many events, without duplicates.
    pub fn new(events: RangeInclusive<usize>) -> Self {
        Self { events, duplicates: 0.0, distinct: Self::DISTINCT }
    }
}

/// When requests are sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pacing {
    /// Each connection sends the next request when the previous one is answered. Measures throughput.
    ClosedLoop,
    /// Requests are due at fixed times, whether or not earlier ones are answered. Measures latency: clients
    /// do not slow down when a server does, so the time that a request waits for a free connection counts.
    FixedRate {
        /// Over all connections.
        requests_per_s: f64,
    },
}
