//! One thread's share of a load, and the state that the thread's clients have in common.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::request::RequestTemplate;
use super::schedule::Schedule;
use super::spec::{Load, Pacing, Shape, Target};
use super::tally::{LiveCounters, Tally};

/// One thread's share of a load.
#[derive(Clone, Debug)]
pub struct ThreadLoad {
    pub target: Target,
    pub shape: Shape,
    pub connections: usize,
    /// `None` for a closed loop.
    pub requests_per_s: Option<f64>,
    /// When the first request is due, as a share of the time between two requests.
    pub offset: f64,
}

impl ThreadLoad {
    /// The share of thread `number` out of `threads`.
    pub fn share_of(load: &Load, number: usize, threads: usize) -> Self {
        let connections = load.connections / threads + usize::from(number < load.connections % threads);
        let requests_per_s = match load.pacing {
            Pacing::ClosedLoop => None,
            Pacing::FixedRate { requests_per_s } => Some(requests_per_s / threads as f64),
        };
        // Threads send in turn, not all at the same moment.
        let offset = number as f64 / threads as f64;
        Self { target: load.target.clone(), shape: load.shape.clone(), connections, requests_per_s, offset }
    }
}

/// Shared by the clients of a thread.
pub struct ThreadState {
    pub load: ThreadLoad,
    templates: Vec<RequestTemplate>,
    /// Requests claimed by clients so far. At a fixed rate, it determines when the next one is due.
    claimed: Cell<u64>,
    pub schedule: Schedule,
    pub live: Arc<LiveCounters>,
    tally: RefCell<Tally>,
}

impl ThreadState {
    pub fn new(
        load: ThreadLoad,
        templates: Vec<RequestTemplate>,
        schedule: Schedule,
        live: Arc<LiveCounters>,
    ) -> Self {
        Self { load, templates, claimed: Cell::new(0), schedule, live, tally: RefCell::new(Tally::new()) }
    }

    /// Returns the number of the next request, and counts it as claimed.
    pub fn claim(&self) -> u64 {
        let number = self.claimed.get();
        self.claimed.set(number + 1);
        number
    }

    pub fn next_template(&self) -> &RequestTemplate {
        &self.templates[self.claimed.get() as usize % self.templates.len()]
    }

    pub fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    /// Records how late a request was sent for which an idle connection was waiting.
    pub fn record_lateness(&self, late: Duration) {
        self.tally.borrow_mut().lateness.record(late);
    }

    /// Records a request that is not sent because the load has ended. Its latency is at least the time until
    /// now.
    pub fn record_unsent(&self, due: Instant) {
        let mut tally = self.tally.borrow_mut();
        tally.unsent += 1;
        if due >= self.schedule.measured_from {
            tally.latency.record(due.elapsed());
        }
    }

    /// Records a request that was answered `took` after it was due. `accepted` is the number of its accepted
    /// events; `None` when it was refused.
    pub fn record_answer(&self, due: Instant, took: Duration, accepted: Option<u64>) {
        let Schedule { measured_from, end, .. } = self.schedule;
        let mut tally = self.tally.borrow_mut();
        let Some(events) = accepted else {
            tally.refused += 1;
            return;
        };
        if due >= measured_from {
            tally.latency.record(took);
        }
        if (measured_from..end).contains(&(due + took)) {
            tally.requests += 1;
            tally.events += events;
        }
    }

    /// Records a request of `events` events that received no answer.
    pub fn record_unanswered(&self, events: usize) {
        let mut tally = self.tally.borrow_mut();
        tally.unanswered += 1;
        tally.unanswered_events += events as u64;
    }
}
