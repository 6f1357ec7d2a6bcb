//! The posted events and batches and their responses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use uuid::Uuid;

use super::cancel_log::CancelLog;
use super::events::{Event, EventKind, EventSource, Version};

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
    /// Acknowledged calls that no event can be made of.
    pub undeliverable: u64,
}

impl Tally {
    /// Adds the counts of another project.
    pub fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.copies += other.copies;
        self.retried += other.retried;
        self.undeliverable += other.undeliverable;
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
    /// Events that were to be cancelled.
    pub cancelled: CancelLog,
    inner: Mutex<Inner>,
}

#[derive(Default, Debug)]
struct Inner {
    outcomes: Vec<EventOutcome>,
    /// The numbers of calls of SDKs.
    calls: BTreeSet<u64>,
    /// The posted versions of events that were posted again in another version.
    versions: BTreeSet<(u64, Version)>,
    /// Events that were acknowledged in two versions with different payloads.
    conflicting: BTreeSet<u64>,
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
        Self { source, cancelled: CancelLog::default(), inner: Mutex::default() }
    }

    /// Reserves numbers for `count` new events.
    pub fn take_numbers(&self, count: u64) -> Vec<u64> {
        let mut inner = self.lock();
        let first = inner.outcomes.len() as u64;
        inner.outcomes.resize(index(first + count), EventOutcome::default());
        (first..first + count).collect()
    }

    /// Reserves numbers for `count` new calls of SDKs.
    pub fn take_calls(&self, count: u64) -> Vec<u64> {
        let numbers = self.take_numbers(count);
        self.lock().calls.extend(&numbers);
        numbers
    }

    /// The event or call with this number, as it was first posted.
    pub fn event(&self, number: u64) -> Event {
        if self.lock().calls.contains(&number) { self.source.call(number) } else { self.source.event(number) }
    }

    /// The event or call with this number, in each version that was posted.
    pub fn versions(&self, number: u64) -> Vec<Event> {
        let again: Vec<Version> = {
            let inner = self.lock();
            let from = (number, Version::First)..=(number, Version::Changed);
            inner.versions.range(from).map(|(_, version)| *version).collect()
        };
        let first = self.event(number);
        let again = again.into_iter().map(|version| self.source.repeated(first.clone(), version));
        std::iter::once(first.clone()).chain(again).collect()
    }

    /// Records that an event is posted again in this version.
    pub fn repeated(&self, number: u64, version: Version) {
        self.lock().versions.insert((number, version));
    }

    /// Records that a version of an event with another payload got 2xx, as the first version did before.
    pub fn conflicted(&self, number: u64) {
        self.lock().conflicting.insert(number);
    }

    /// The number of events that were acknowledged in two versions with different payloads.
    pub fn conflicting(&self) -> u64 {
        self.lock().conflicting.len() as u64
    }

    /// Records a request with these events that got 2xx.
    pub fn acknowledged(&self, events: &[u64], batch_id: Uuid, accepted: u64, earlier_unknown: bool) {
        self.acknowledged_events(events, earlier_unknown);
        let mut inner = self.lock();
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

    /// Records a request with these events that got 2xx, from a route whose answer names no batch.
    pub fn acknowledged_events(&self, events: &[u64], earlier_unknown: bool) {
        let dead = events.iter().filter(|&&number| self.event(number).kind == EventKind::Undeliverable);
        let dead = dead.count() as u64;
        let mut inner = self.lock();
        inner.tally.acknowledged += 1;
        inner.tally.retried += u64::from(earlier_unknown);
        inner.tally.undeliverable += dead;
        for &event in events {
            inner.outcomes[index(event)].acknowledged = true;
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
