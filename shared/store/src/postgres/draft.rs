//! What one transaction is going to write, decided without the database: which rows are sent, which are known to be
//! duplicates or refused, and what that makes of each entry. Pure; [`super::write`] learns from the database and asks
//! again.
//!
//! Every entry is judged as if it were written alone after those before it, so that the outcome does not depend on how
//! entries happen to be grouped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use bytes::Bytes;

use super::error::Failure;
use super::recent;
use crate::ledger::LedgerKey;
use crate::{Payload, WriteOutcome, WriteRequest};
use millrace_event::Outcome;
use millrace_event::plan::ProjectId;
use millrace_event::row::{self, EventTime, RowKey};

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;

/// What is known of an entry before it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Never written, as far as we know.
    Fresh,
    /// An `Idempotency-Key` used again after the stream had forgotten it: another entry of a batch that is written.
    AdmittedAgain,
    /// The ledger holds this very entry.
    WriteOutcome(Outcome),
    /// The same entry stands earlier in this transaction, at this place.
    Twin(usize),
}

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ledger: LedgerKey,
    pub(super) project: ProjectId,
    pub(super) count: u32,
    pub(super) state: State,
    /// Why the whole entry is dead, and what stood in it.
    pub(super) dead: Option<(String, Bytes)>,
}

/// Why a row is dead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Death {
    pub(super) sqlstate: String,
    pub(super) reason: String,
}

/// What is known of a row before it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Unknown,
    /// The store has it.
    Known,
    /// The store refuses it; the reason stands in `Draft::deaths`.
    Dead,
}

/// One row, with its key and its place.
#[derive(Debug)]
pub(super) struct Item<'a> {
    day: i64,
    pub(super) key: RowKey,
    pub(super) entry: u32,
    pub(super) index: u32,
    fate: Fate,
    time: Recognised,
    pub(super) row: &'a [u8],
}

/// What an event is recognised by, when it comes again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Recognised {
    IdAndTime,
    IdAlone,
    Batch,
}

impl Item<'_> {
    /// Recognised by its id alone, with the help of `undated_ids`.
    pub(super) fn is_undated(&self) -> bool {
        self.time == Recognised::IdAlone
    }

    /// See [`super::recent`]. `None` for events that cannot come again but with their batch.
    pub(super) fn hash(&self) -> Option<u64> {
        let hash = |time| recent::hash(self.key.project.0, time, self.key.event_id);
        match self.time {
            Recognised::IdAndTime => Some(hash(Some(self.key.timestamp_us))),
            Recognised::IdAlone => Some(hash(None)),
            Recognised::Batch => None,
        }
    }
}

/// One row of `usage_hourly` to be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Usage {
    pub(super) events: i64,
    pub(super) bytes: i64,
    pub(super) duplicates: i64,
    pub(super) dead: i64,
}

/// Works on their way into the store.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) entries: Vec<Entry>,
    /// In the order they are sent: by day, which is by partition, and in it by primary key. So inserts go to the right
    /// edge of the index, and lanes that meet the same keys meet them in the same order and never deadlock.
    pub(super) items: Vec<Item<'a>>,
    pub(super) deaths: BTreeMap<u32, Death>,
    pub(super) began: Instant,
    any_undated: bool,
}

impl<'a> Draft<'a> {
    /// # Errors
    /// When an entry's receive time is no time.
    pub(super) fn new(works: &'a [WriteRequest]) -> Result<Self, Failure> {
        // What a dead entry says of itself is not to be believed.
        let has_rows = |work: &&WriteRequest| matches!(work.body, Payload::Rows(_));
        let rows_expected = works.iter().filter(has_rows).map(|work| work.count as usize).sum();
        let mut draft = Self {
            entries: Vec::with_capacity(works.len()),
            items: Vec::with_capacity(rows_expected),
            deaths: BTreeMap::new(),
            began: Instant::now(),
            any_undated: false,
        };
        let mut first_places = HashMap::new();
        let mut batch_ids = HashSet::new();
        for (place, work) in works.iter().enumerate() {
            let mut entry = entry_of(work)?;
            if let Some(&first) = first_places.get(&entry.ledger) {
                entry.state = State::Twin(first);
            } else {
                first_places.insert(entry.ledger, place);
                if !batch_ids.insert(entry.ledger.batch_id) {
                    entry.admit_again();
                }
            }
            if entry.dead.is_none() {
                draft.add_rows(work, &mut entry, place);
            }
            draft.entries.push(entry);
        }
        draft.items.sort_unstable_by_key(|item| (item.day, item.key, item.entry, item.index));
        Ok(draft)
    }

    fn add_rows(&mut self, work: &'a WriteRequest, entry: &mut Entry, place: usize) {
        let Payload::Rows(rows) = &work.body else { return };
        let start = self.items.len();
        let place = u32::try_from(place).expect("entries of one transaction fit 32 bits");
        for (index, row) in row::split(rows).enumerate() {
            let Ok(row) = row else { break };
            let key = row::key(row, entry.ledger.received_us);
            let time = match row::time(row) {
                EventTime::At(_) => Recognised::IdAndTime,
                EventTime::Undated => Recognised::IdAlone,
                EventTime::Anonymous => Recognised::Batch,
            };
            self.any_undated |= time == Recognised::IdAlone;
            let day = key.timestamp_us.div_euclid(DAY_US);
            let index = u32::try_from(index).expect("rows of one entry fit 32 bits");
            self.items.push(Item { day, key, entry: place, index, fate: Fate::Unknown, time, row });
        }
        let found = self.items.len() - start;
        if found != work.count as usize {
            // Whoever unpacked the entry has checked this. To store some rows and count others would be worse.
            self.items.truncate(start);
            let reason = format!("{found} whole rows, {} promised", work.count);
            entry.dead = Some((reason, rows.clone()));
        }
    }

    /// The rows to send, as indices of `items`: of fresh entries, neither known nor dead, and of equal ones the first
    /// in stream order.
    pub(super) fn chosen(&self) -> Vec<usize> {
        let passed_over = self.undated_repeats();
        let mut chosen = Vec::with_capacity(self.items.len());
        let mut last_key = None;
        for (at, item) in self.items.iter().enumerate() {
            if !self.is_judged_by_itself(item)
                || item.fate == Fate::Dead
                || last_key == Some(item.key)
                || passed_over.contains(&at)
            {
                continue;
            }
            last_key = Some(item.key);
            if item.fate == Fate::Unknown {
                chosen.push(at);
            }
        }
        chosen
    }

    /// Whether this row can be new. In a batch that was written before, a row that nothing but its batch tells apart
    /// is a repetition; one with an id or a time of its own need not be: a client may have used its key for something
    /// else, long after.
    pub(super) fn is_judged_by_itself(&self, item: &Item<'_>) -> bool {
        match self.entries[item.entry as usize].state {
            State::Fresh => true,
            State::AdmittedAgain => item.time != Recognised::Batch,
            State::WriteOutcome(_) | State::Twin(_) => false,
        }
    }

    /// Undated rows that repeat the id of one before them in stream order. Their keys differ, so sorting does not bring
    /// them together.
    fn undated_repeats(&self) -> HashSet<usize> {
        if !self.any_undated {
            return HashSet::new();
        }
        let is_live = |item: &Item<'_>| self.is_judged_by_itself(item) && item.fate != Fate::Dead;
        let mut undated: Vec<usize> = (0..self.items.len())
            .filter(|&at| self.items[at].is_undated() && is_live(&self.items[at]))
            .collect();
        undated.sort_unstable_by_key(|&at| (self.items[at].entry, self.items[at].index));
        let mut seen = HashSet::with_capacity(undated.len());
        let is_repeat = |at: &usize| {
            let key = self.items[*at].key;
            !seen.insert((key.project, key.event_id))
        };
        undated.into_iter().filter(is_repeat).collect()
    }

    /// The store has this row.
    pub(super) fn mark_known(&mut self, at: usize) {
        self.items[at].fate = Fate::Known;
    }

    /// The store refuses this row.
    pub(super) fn mark_dead(&mut self, at: usize, death: Death) {
        self.items[at].fate = Fate::Dead;
        self.deaths.insert(u32::try_from(at).expect("rows of one transaction fit 32 bits"), death);
    }

    /// The entries that this transaction writes.
    pub(super) fn live_entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let is_live = |entry: &Entry| matches!(entry.state, State::Fresh | State::AdmittedAgain);
        self.entries.iter().enumerate().filter(move |(_, entry)| is_live(entry))
    }

    /// What becomes of each entry when exactly the `chosen` rows are stored.
    pub(super) fn outcomes(&self, chosen: &[usize]) -> Vec<WriteOutcome> {
        let mut stored = vec![0_u32; self.entries.len()];
        for &at in chosen {
            stored[self.items[at].entry as usize] += 1;
        }
        let mut dead = vec![0_u32; self.entries.len()];
        for item in self.deaths.keys().map(|&at| &self.items[at as usize]) {
            dead[item.entry as usize] += u32::from(self.is_judged_by_itself(item));
        }
        let mut all: Vec<WriteOutcome> = Vec::with_capacity(self.entries.len());
        for (place, entry) in self.entries.iter().enumerate() {
            let written = |outcome| WriteOutcome { outcome, redelivered: false };
            all.push(match entry.state {
                State::WriteOutcome(outcome) => WriteOutcome { outcome, redelivered: true },
                State::Twin(first) => WriteOutcome { redelivered: true, ..all[first] },
                State::AdmittedAgain if entry.dead.is_some() => {
                    written(Outcome { duplicate: entry.count, ..Outcome::default() })
                }
                State::Fresh if entry.dead.is_some() => {
                    written(Outcome { dead: entry.count, ..Outcome::default() })
                }
                State::Fresh | State::AdmittedAgain => {
                    let (stored, dead) = (stored[place], dead[place]);
                    written(Outcome { stored, duplicate: entry.count - stored - dead, dead })
                }
            });
        }
        all
    }

    /// What this transaction adds to `usage_hourly`, by project and hour of receipt.
    pub(super) fn usage(&self, chosen: &[usize], outcomes: &[WriteOutcome]) -> BTreeMap<(i64, i64), Usage> {
        let mut bytes = vec![0_i64; self.entries.len()];
        for &at in chosen {
            bytes[self.items[at].entry as usize] += self.items[at].row.len() as i64;
        }
        let mut usage = BTreeMap::<_, Usage>::new();
        for (place, entry) in self.live_entries() {
            let hour_us = entry.ledger.received_us.div_euclid(HOUR_US) * HOUR_US;
            let sum = usage.entry((entry.project.0, hour_us)).or_default();
            let outcome = outcomes[place].outcome;
            sum.events += i64::from(outcome.stored);
            sum.bytes += bytes[place];
            sum.duplicates += i64::from(outcome.duplicate);
            sum.dead += i64::from(outcome.dead);
        }
        usage
    }
}

impl Entry {
    /// Only ids that a client's key stands behind can come again; those made by the API never repeat.
    pub(super) fn is_keyed(&self) -> bool {
        self.ledger.batch_id.get_version_num() != 7
    }

    /// From now on this entry is one that repeats a batch, with a ledger row of its own.
    pub(super) fn admit_again(&mut self) {
        self.state = State::AdmittedAgain;
        self.ledger = self.ledger.admitted_again();
    }
}

fn entry_of(work: &WriteRequest) -> Result<Entry, Failure> {
    let ledger = LedgerKey::new(work.batch_id, work.entry, work.shard).ok_or_else(|| {
        Failure::new("22008", format!("entry {} was received at no time there is", work.entry))
    })?;
    let dead = match &work.body {
        Payload::Rows(_) => None,
        Payload::DeadLetter { reason, raw } => Some((reason.clone(), raw.clone())),
    };
    Ok(Entry { ledger, project: work.project, count: work.count, state: State::Fresh, dead })
}
