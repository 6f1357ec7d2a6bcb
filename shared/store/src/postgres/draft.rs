//! The entries of one write and their rows, with everything known about them so far: which rows are stored or
//! have a claimed id, which the database rejects, and which entries the ledger has. Pure: this module must
//! never access the database.
//!
//! Every entry gets the outcome that it would get if it were written alone, after the entries before it. So
//! the outcome does not depend on how entries are grouped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use bytes::Bytes;

use super::error::Failure;
use super::partitions::Day;
use super::recent;
use crate::dead_reason::DeadReason;
use crate::ledger::LedgerKey;
use crate::payload::PayloadDigest;
use crate::{Payload, RequestCharges, WriteRequest};
use millrace_event::plan::ProjectId;
use millrace_event::row::{self, EventTime, RowKey};
use millrace_event::undeliverable::UndeliverableCall;
use millrace_event::{BatchGroup, Outcome};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EntryState {
    /// Not written, as far as is known.
    New,
    /// The batch was written from another entry: the client used its `Idempotency-Key` again after the stream
    /// had forgotten it.
    ReusedKey,
    /// The ledger has this very entry, with this outcome.
    InLedger(Outcome),
    /// The same entry is also at this lower index.
    DuplicateOf(usize),
}

#[derive(Debug)]
pub(super) struct DraftEntry {
    pub(super) ledger: LedgerKey,
    pub(super) project: ProjectId,
    pub(super) count: u32,
    pub(super) state: EntryState,
    /// Set when the whole entry goes to the dead letters.
    pub(super) dead_letter: Option<DeadEntry>,
}

#[derive(Debug)]
pub(super) struct DeadEntry {
    pub(super) reason: String,
    pub(super) payload: Bytes,
}

#[derive(Debug)]
pub(super) struct DraftRow<'a> {
    day: Day,
    pub(super) key: RowKey,
    /// Index of its entry.
    pub(super) entry: u32,
    /// Its index in the entry.
    pub(super) index: u32,
    /// Its key is in `events`.
    is_stored: bool,
    /// Its id is in `undated_ids`.
    is_claimed: bool,
    /// The database rejects it: see [`Draft::rejections`].
    is_rejected: bool,
    pub(super) identity: Identity,
    pub(super) bytes: &'a [u8],
}

/// The property by which a repetition of an event is recognized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Identity {
    IdAndTime,
    /// With the help of `undated_ids`, for some days.
    UndatedId,
    /// With the help of `undated_ids`, at any time, for as long as the ledger is kept. An event that was
    /// stored with the same time, before its project chose this, is the same event, too.
    Id,
    Batch,
}

impl DraftRow<'_> {
    pub(super) fn is_stored(&self) -> bool {
        self.is_stored
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.is_claimed
    }

    /// Whether it claims its id in `undated_ids`.
    pub(super) fn claims_id(&self) -> bool {
        matches!(self.identity, Identity::UndatedId | Identity::Id)
    }

    /// The hash for [`recent`]. `None` for an event that can repeat only with its batch.
    pub(super) fn hash(&self) -> Option<u64> {
        let hash = |time| recent::hash(self.key.project.0, time, self.key.event_id);
        match self.identity {
            Identity::IdAndTime => Some(hash(Some(self.key.timestamp_us))),
            Identity::UndatedId | Identity::Id => Some(hash(None)),
            Identity::Batch => None,
        }
    }
}

/// A row that is no event: it becomes a dead letter, unless its batch was written before.
#[derive(Debug)]
pub(super) struct DraftCall<'a> {
    /// Index of its entry.
    pub(super) entry: u32,
    /// Its index in the entry.
    pub(super) index: u32,
    pub(super) call: UndeliverableCall<'a>,
}

#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) entries: Vec<DraftEntry>,
    /// In the order they are sent: by day, which is by partition, and within a day by primary key. So inserts
    /// go to the right edge of the index, and lanes with the same keys meet them in the same order and cannot
    /// deadlock.
    pub(super) rows: Vec<DraftRow<'a>>,
    /// In stream order.
    pub(super) calls: Vec<DraftCall<'a>>,
    /// By index of the row.
    pub(super) rejections: BTreeMap<u32, DeadReason>,
    /// Payloads of the stored events with the keys of rows, by index of the row.
    pub(super) stored_payloads: HashMap<usize, PayloadDigest>,
    /// Payloads of the events that claimed the ids of rows, by index of the row.
    pub(super) claim_payloads: HashMap<usize, PayloadDigest>,
    /// Rows whose id is claimed for some days only.
    pub(super) short_claims: HashSet<usize>,
    pub(super) began: Instant,
    /// The requests, and what they were charged for limits.
    pub(super) requests: &'a [WriteRequest],
    pub(super) charges: Option<&'a RequestCharges>,
    /// Whether any row claims its id.
    pub(super) any_claims: bool,
}

/// What `undated_ids` has of an id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// It is kept for some days, and not as long as the ledger.
    pub(super) is_short: bool,
    /// The payload of the event that claimed it, if that event is still stored.
    pub(super) payload: Option<PayloadDigest>,
}

impl<'a> Draft<'a> {
    /// # Errors
    /// When the receive time of an entry is out of range.
    pub(super) fn new(requests: &'a [WriteRequest]) -> Result<Self, Failure> {
        // The count of a dead entry may be wrong.
        let has_rows = |request: &&WriteRequest| matches!(request.payload, Payload::Rows(_));
        let rows_expected = requests.iter().filter(has_rows).map(|request| request.count as usize).sum();
        let mut draft = Self {
            entries: Vec::with_capacity(requests.len()),
            rows: Vec::with_capacity(rows_expected),
            calls: Vec::new(),
            rejections: BTreeMap::new(),
            stored_payloads: HashMap::new(),
            claim_payloads: HashMap::new(),
            short_claims: HashSet::new(),
            began: Instant::now(),
            requests,
            charges: None,
            any_claims: false,
        };
        let mut indices = HashMap::new();
        let mut batch_ids = HashSet::new();
        for (index, request) in requests.iter().enumerate() {
            let mut entry = entry_of(request)?;
            if let Some(&first) = indices.get(&entry.ledger) {
                entry.state = EntryState::DuplicateOf(first);
            } else {
                indices.insert(entry.ledger, index);
                if !batch_ids.insert(entry.ledger.batch_id) {
                    entry.mark_reused_key();
                }
            }
            if entry.dead_letter.is_none() {
                draft.add_rows(request, &mut entry, index);
            }
            draft.entries.push(entry);
        }
        draft.rows.sort_unstable_by_key(|row| (row.day, row.key, row.entry, row.index));
        Ok(draft)
    }

    fn add_rows(&mut self, request: &'a WriteRequest, entry: &mut DraftEntry, entry_index: usize) {
        let Payload::Rows(rows) = &request.payload else { return };
        let (start, calls_start) = (self.rows.len(), self.calls.len());
        let entry_index = u32::try_from(entry_index).expect("entries of one transaction fit 32 bits");
        for (index, bytes) in row::split(rows).enumerate() {
            let Ok(bytes) = bytes else { break };
            let index = u32::try_from(index).expect("rows of one entry fit 32 bits");
            if let Some(call) = UndeliverableCall::read(bytes) {
                self.calls.push(DraftCall { entry: entry_index, index, call });
                continue;
            }
            let key = row::key(bytes, entry.ledger.received_us);
            let identity = match row::time(bytes) {
                EventTime::Anonymous | EventTime::Undeliverable => Identity::Batch,
                EventTime::At(_) | EventTime::Undated if row::by_id(bytes) => Identity::Id,
                EventTime::At(_) => Identity::IdAndTime,
                EventTime::Undated => Identity::UndatedId,
            };
            self.any_claims |= matches!(identity, Identity::UndatedId | Identity::Id);
            let day = Day::of(key.timestamp_us);
            let (is_stored, is_claimed, is_rejected) = (false, false, false);
            self.rows.push(DraftRow {
                day,
                key,
                entry: entry_index,
                index,
                is_stored,
                is_claimed,
                is_rejected,
                identity,
                bytes,
            });
        }
        let found = self.rows.len() - start + self.calls.len() - calls_start;
        if found != request.count as usize {
            // Unpacking the entry has checked this. Storing some rows and counting others would be worse.
            self.rows.truncate(start);
            self.calls.truncate(calls_start);
            let reason = format!("the entry has {found} whole rows instead of {}", request.count);
            entry.dead_letter = Some(DeadEntry { reason, payload: rows.clone() });
        }
    }

    /// In a batch that was written before, a row that only its batch identifies is a repetition. A row with
    /// its own id or time can be new: a client may use a key for something else, long after.
    pub(super) fn can_be_new(&self, row: &DraftRow<'_>) -> bool {
        match self.entries[row.entry as usize].state {
            EntryState::New => true,
            EntryState::ReusedKey => row.identity != Identity::Batch,
            EntryState::InLedger(_) | EntryState::DuplicateOf(_) => false,
        }
    }

    /// The calls that become dead letters. In a batch that was written before, a call is a repetition.
    pub(super) fn dead_calls(&self) -> impl Iterator<Item = &DraftCall<'a>> {
        self.calls.iter().filter(|call| self.entries[call.entry as usize].state == EntryState::New)
    }

    /// The days of the first and the last row.
    pub(super) fn first_and_last_day(&self) -> Option<(Day, Day)> {
        Some((self.rows.first()?.day, self.rows.last()?.day))
    }

    /// The days of all rows, oldest first.
    pub(super) fn days(&self) -> Vec<Day> {
        let days = self.rows.chunk_by(|row, next| row.day == next.day);
        days.filter_map(|rows| Some(rows.first()?.day)).collect()
    }

    /// The row has a chance to be stored: its entry is written, and the database has not rejected it.
    pub(super) fn is_live(&self, row: &DraftRow<'_>) -> bool {
        !row.is_rejected && self.can_be_new(row)
    }

    /// Records that the key of a row is stored, with the payload of the stored event if it is known.
    pub(super) fn mark_stored(&mut self, row: usize, payload: Option<PayloadDigest>) {
        self.rows[row].is_stored = true;
        self.stored_payloads.extend(payload.map(|payload| (row, payload)));
    }

    /// Records that the id of a row is claimed, with the payload of the event that claimed it, if that event
    /// is still stored.
    pub(super) fn mark_claimed(&mut self, row: usize, claim: Claim) {
        self.rows[row].is_claimed = true;
        self.claim_payloads.extend(claim.payload.map(|payload| (row, payload)));
        if claim.is_short {
            self.short_claims.insert(row);
        }
    }

    pub(super) fn mark_rejected(&mut self, row: usize, rejection: DeadReason) {
        self.rows[row].is_rejected = true;
        self.rejections.insert(u32::try_from(row).expect("rows of one transaction fit 32 bits"), rejection);
    }

    /// The entries that the transaction writes, each with its index.
    pub(super) fn live_entries(&self) -> impl Iterator<Item = (usize, &DraftEntry)> {
        let is_live = |entry: &DraftEntry| matches!(entry.state, EntryState::New | EntryState::ReusedKey);
        self.entries.iter().enumerate().filter(move |(_, entry)| is_live(entry))
    }
}

impl DraftEntry {
    /// Whether the batch can be accepted again. Only an id derived from a client's key can; the API's own ids
    /// never repeat.
    pub(super) fn has_client_key(&self) -> bool {
        // Release 0.1 made ids of version 7.
        self.ledger.batch_id.get_version_num() != 7 && BatchGroup::of(self.ledger.batch_id).is_none()
    }

    /// Gives the entry its own row in the ledger, next to the row of the batch it repeats.
    pub(super) fn mark_reused_key(&mut self) {
        self.state = EntryState::ReusedKey;
        self.ledger = self.ledger.of_reused_key();
    }
}

fn entry_of(request: &WriteRequest) -> Result<DraftEntry, Failure> {
    let ledger = LedgerKey::new(request.batch_id, request.entry, request.shard).ok_or_else(|| {
        Failure::new("22008", format!("the receive time of entry {} is out of range", request.entry))
    })?;
    let dead_letter = match &request.payload {
        Payload::Rows(_) => None,
        Payload::DeadLetter { reason, raw } => {
            Some(DeadEntry { reason: reason.clone(), payload: raw.clone() })
        }
    };
    Ok(DraftEntry {
        ledger,
        project: request.project,
        count: request.count,
        state: EntryState::New,
        dead_letter,
    })
}
