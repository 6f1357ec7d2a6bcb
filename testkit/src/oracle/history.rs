//! The posted events and batches and their responses.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use uuid::Uuid;

use super::events::EventSource;

/// What the responses to all requests with an event say about it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EventOutcome {
    /// A request with the event got 2xx: it must be stored, once.
    pub acknowledged: bool,
    /// A request with the event got 5xx or no response: it may be stored, once.
    pub unknown: bool,
    /// A request with the event got 4xx. If neither of the above holds, it must not be stored.
    pub refused: bool,
    /// A drill wrote the event directly into the stream, in an entry with poison: it must be stored, once.
    pub forced: bool,
}

impl EventOutcome {
    pub fn must_be_stored(self) -> bool {
        self.acknowledged || self.forced
    }

    pub fn may_be_stored(self) -> bool {
        self.must_be_stored() || self.unknown
    }
}

/// Counts of the responses to the clients of one project.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Requests that got 2xx.
    pub acknowledged: u64,
    /// Requests that got 5xx or no response.
    pub unknown: u64,
    /// Requests that got 4xx, by the code in the response.
    pub refused: BTreeMap<String, u64>,
    /// Requests that got 5xx, by the code in the response.
    pub unavailable: BTreeMap<String, u64>,
    /// Events that were posted again in another batch.
    pub copies: u64,
    /// Batches that were acknowledged after an attempt with an unknown outcome.
    pub retried: u64,
}

impl Tally {
    /// Adds the counts of another project.
    pub fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.copies += other.copies;
        self.retried += other.retried;
        for (sum, more) in [(&mut self.refused, &other.refused), (&mut self.unavailable, &other.unavailable)]
        {
            for (code, count) in more {
                *sum.entry(code.clone()).or_default() += count;
            }
        }
    }
}

/// The posted events of one project and the responses.
#[derive(Debug)]
pub struct History {
    pub source: EventSource,
    inner: Mutex<Inner>,
}

#[derive(Default, Debug)]
struct Inner {
    outcomes: Vec<EventOutcome>,
    /// Batches that got 2xx, with the number of accepted events in the response.
    batches: BTreeMap<Uuid, u64>,
    /// Impossible responses.
    contradictions: Vec<String>,
    tally: Tally,
    dead: u64,
}

impl History {
    /// Creates an empty history.
    pub fn new(source: EventSource) -> Self {
        Self { source, inner: Mutex::default() }
    }

    /// Reserves numbers for `count` new events.
    pub fn take_numbers(&self, count: u64) -> Vec<u64> {
        let mut inner = self.lock();
        let first = inner.outcomes.len() as u64;
        inner.outcomes.resize(index(first + count), EventOutcome::default());
        (first..first + count).collect()
    }

    /// Records a request with these events that got 2xx.
    pub fn acknowledged(&self, events: &[u64], batch_id: Uuid, accepted: u64, earlier_unknown: bool) {
        let mut inner = self.lock();
        inner.tally.acknowledged += 1;
        inner.tally.retried += u64::from(earlier_unknown);
        for &event in events {
            inner.outcomes[index(event)].acknowledged = true;
        }
        if accepted != events.len() as u64 {
            let said = format!(
                "the response to batch {batch_id} of {} events says {accepted} accepted",
                events.len()
            );
            inner.contradictions.push(said);
        }
        if let Some(before) = inner.batches.insert(batch_id, accepted)
            && before != accepted
        {
            let said = format!(
                "the first response to batch {batch_id} says {before} accepted, a later one {accepted}"
            );
            inner.contradictions.push(said);
        }
    }

    /// Records a request with these events that got 5xx with this code, or no response.
    pub fn unknown(&self, events: &[u64], code: Option<&str>) {
        let mut inner = self.lock();
        inner.tally.unknown += 1;
        if let Some(code) = code {
            *inner.tally.unavailable.entry(code.to_owned()).or_default() += 1;
        }
        for &event in events {
            inner.outcomes[index(event)].unknown = true;
        }
    }

    /// Records a request with these events that got 4xx with this code.
    pub fn refused(&self, events: &[u64], code: &str) {
        let mut inner = self.lock();
        *inner.tally.refused.entry(code.to_owned()).or_default() += 1;
        for &event in events {
            inner.outcomes[index(event)].refused = true;
        }
    }

    /// Records an entry that a drill wrote directly into the stream: these events in it are valid, and `dead`
    /// others must become dead letters.
    pub fn forced(&self, events: &[u64], dead: u64) {
        let mut inner = self.lock();
        inner.dead += dead;
        for &event in events {
            inner.outcomes[index(event)].forced = true;
        }
    }

    /// Records `count` events that were posted again.
    pub fn copied(&self, count: u64) {
        self.lock().tally.copies += count;
    }

    /// Records an impossible response.
    pub fn contradiction(&self, said: String) {
        self.lock().contradictions.push(said);
    }

    /// `None` when no event has this number.
    pub fn outcome(&self, number: u64) -> Option<EventOutcome> {
        self.lock().outcomes.get(index(number)).copied()
    }

    /// The number of reserved event numbers.
    pub fn count(&self) -> u64 {
        self.lock().outcomes.len() as u64
    }

    /// Batches that got 2xx, with the number of accepted events in the response.
    pub fn batches(&self) -> BTreeMap<Uuid, u64> {
        self.lock().batches.clone()
    }

    pub fn tally(&self) -> Tally {
        self.lock().tally.clone()
    }

    /// The expected number of dead letters.
    pub fn dead(&self) -> u64 {
        self.lock().dead
    }

    pub fn contradictions(&self) -> Vec<String> {
        self.lock().contradictions.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics while it holds the history")
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("the events of a drill fit into memory")
}
