//! What was posted and what was answered, event by event and batch by batch.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use uuid::Uuid;

use super::events::EventSource;

/// What is known of an event from the answers to all the requests that carried it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EventOutcome {
    /// A request with it was answered 2xx: it must be stored, once.
    pub acknowledged: bool,
    /// A request with it was answered 5xx or not at all: it may be stored, once.
    pub unknown: bool,
    /// A request with it was answered 4xx. Without the other two it must not be stored.
    pub refused: bool,
    /// It was put into the stream by hand, in an entry with poison: it must be stored, once.
    pub forced: bool,
}

impl EventOutcome {
    /// It must be in the store.
    pub fn is_owed(self) -> bool {
        self.acknowledged || self.forced
    }

    /// It may be in the store.
    pub fn is_possible(self) -> bool {
        self.is_owed() || self.unknown
    }
}

/// Counts of what the clients of one project saw.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Requests answered 2xx.
    pub acknowledged: u64,
    /// Requests answered 5xx, or not at all.
    pub unknown: u64,
    /// Requests answered 4xx, by the answer's code.
    pub refused: BTreeMap<String, u64>,
    /// Requests answered 5xx, by the answer's code.
    pub unavailable: BTreeMap<String, u64>,
    /// Events that were posted once more, in another batch, after they had been posted before.
    pub copies: u64,
    /// Batches that were acknowledged only after an attempt whose outcome is unknown.
    pub retried: u64,
}

impl Tally {
    /// Adds another project's.
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

/// The history of one project.
#[derive(Debug)]
pub struct History {
    /// What its events are.
    pub source: EventSource,
    inner: Mutex<Inner>,
}

#[derive(Default, Debug)]
struct Inner {
    fates: Vec<EventOutcome>,
    /// Batches answered 2xx, and how many events the answer said were accepted.
    batches: BTreeMap<Uuid, u64>,
    /// What must never be, seen by a client.
    contradictions: Vec<String>,
    tally: Tally,
    dead: u64,
}

impl History {
    /// One in which nothing has happened.
    pub fn new(source: EventSource) -> Self {
        Self { source, inner: Mutex::default() }
    }

    /// Reserves the numbers of `count` new events.
    pub fn take_numbers(&self, count: u64) -> Vec<u64> {
        let mut inner = self.lock();
        let first = inner.fates.len() as u64;
        inner.fates.resize(index(first + count), EventOutcome::default());
        (first..first + count).collect()
    }

    /// A request with these events was answered 2xx.
    pub fn acknowledged(&self, events: &[u64], batch_id: Uuid, accepted: u64, earlier_unknown: bool) {
        let mut inner = self.lock();
        inner.tally.acknowledged += 1;
        inner.tally.retried += u64::from(earlier_unknown);
        for &event in events {
            inner.fates[index(event)].acknowledged = true;
        }
        if accepted != events.len() as u64 {
            let said =
                format!("batch {batch_id} of {} events was answered: {accepted} accepted", events.len());
            inner.contradictions.push(said);
        }
        if let Some(before) = inner.batches.insert(batch_id, accepted)
            && before != accepted
        {
            let said = format!("batch {batch_id} was first answered {before} accepted, then {accepted}");
            inner.contradictions.push(said);
        }
    }

    /// A request with these events was answered 5xx with this code, or not at all.
    pub fn unknown(&self, events: &[u64], code: Option<&str>) {
        let mut inner = self.lock();
        inner.tally.unknown += 1;
        if let Some(code) = code {
            *inner.tally.unavailable.entry(code.to_owned()).or_default() += 1;
        }
        for &event in events {
            inner.fates[index(event)].unknown = true;
        }
    }

    /// A request with these events was answered 4xx with this code.
    pub fn refused(&self, events: &[u64], code: &str) {
        let mut inner = self.lock();
        *inner.tally.refused.entry(code.to_owned()).or_default() += 1;
        for &event in events {
            inner.fates[index(event)].refused = true;
        }
    }

    /// An entry was put into the stream by hand: these events of it are good, and it brings `dead` dead letters.
    pub fn forced(&self, events: &[u64], dead: u64) {
        let mut inner = self.lock();
        inner.dead += dead;
        for &event in events {
            inner.fates[index(event)].forced = true;
        }
    }

    /// Events were posted that had been posted before.
    pub fn copied(&self, count: u64) {
        self.lock().tally.copies += count;
    }

    /// A client saw what must never be.
    pub fn contradiction(&self, said: String) {
        self.lock().contradictions.push(said);
    }

    /// What is known of event `number`; `None` when there is no such event.
    pub fn fate(&self, number: u64) -> Option<EventOutcome> {
        self.lock().fates.get(index(number)).copied()
    }

    /// Numbers given out so far.
    pub fn count(&self) -> u64 {
        self.lock().fates.len() as u64
    }

    /// Batches answered 2xx and how many events the answer said were accepted.
    pub fn batches(&self) -> BTreeMap<Uuid, u64> {
        self.lock().batches.clone()
    }

    /// What the clients counted.
    pub fn tally(&self) -> Tally {
        self.lock().tally.clone()
    }

    /// Dead letters there must be.
    pub fn dead(&self) -> u64 {
        self.lock().dead
    }

    /// What clients saw that must never be.
    pub fn contradictions(&self) -> Vec<String> {
        self.lock().contradictions.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics with the history in hand")
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a drill has fewer events than memory")
}
