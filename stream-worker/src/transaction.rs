//! Builds the write requests of one transaction from the entries that a lane holds, and isolates suspects.
//!
//! A transaction may end within an entry, whose other batches are then written in the next one. The entry is
//! settled with the last of them.

use millrace_store::{Payload, RequestCharges, RequestRefunds, WriteOutcome, WriteRequest};
use millrace_stream::{Settlement, SharedStream, StreamError};

use crate::held::{HeldEntries, HeldEntry};
use crate::quarantine::{self, Handling};
use crate::requests::EntryRequests;

/// Unpacked bytes of one transaction, at most, not counting its last batch.
const TRANSACTION_BYTES_MAX: usize = 32 << 20;

/// The next requests of the entries that a lane holds, in order.
#[derive(Default)]
pub struct Transaction {
    pub requests: Vec<WriteRequest>,
    /// What the requests were charged for limits of customers.
    pub charges: RequestCharges,
    /// The requests of each entry.
    parts: Vec<EntryPart>,
    events: u64,
    /// Unpacked bytes of all requests.
    bytes: usize,
}

struct EntryPart {
    requests: usize,
    /// The last request of the entry is among them.
    is_last: bool,
}

impl Transaction {
    /// Records the commit in the held entries, and removes those that are complete. Returns their
    /// settlements. `outcomes` has one outcome per request, in order, and `refunds` what requests give back.
    pub fn record(
        &self,
        held: &mut HeldEntries,
        outcomes: &[WriteOutcome],
        refunds: &RequestRefunds,
    ) -> Vec<Settlement> {
        let mut committed = self.requests.iter().zip(outcomes).enumerate();
        let mut settlements = Vec::new();
        for part in &self.parts {
            let Some(entry) = held.front_mut() else { break };
            for (index, (request, outcome)) in committed.by_ref().take(part.requests) {
                entry.record(request, outcome, refunds.get(&index).map_or(&[], Vec::as_slice));
            }
            if part.is_last {
                settlements.extend(held.pop_front().map(HeldEntry::into_settlement));
            }
        }
        settlements
    }

    fn push(&mut self, of: &HeldEntry, request: WriteRequest) {
        let charges = of.delivery.entry.as_ref().map_or(&[][..], |entry| entry.charges_of(request.batch_id));
        if !charges.is_empty() {
            self.charges.insert(self.requests.len(), charges.to_vec());
        }
        self.events += u64::from(request.count);
        self.bytes += match &request.payload {
            Payload::Rows(rows) => rows.len(),
            Payload::DeadLetter { reason, raw } => {
                let (id, shard, batch) = (request.entry, request.shard, request.batch_id);
                tracing::error!(%id, shard, %batch, %reason, "a batch goes to the dead letters as a whole");
                raw.len()
            }
        };
        self.requests.push(request);
    }
}

/// Builds the transactions of one lane.
pub struct TransactionBuilder {
    shard: u16,
    stream: SharedStream,
    /// Events after which a transaction is full, unless a transaction has failed.
    events_max: u64,
    /// Events after which the next transaction is full.
    events_goal: u64,
    /// The attempts at the suspect that is being written.
    attempts: Option<u32>,
}

impl TransactionBuilder {
    pub fn new(shard: u16, stream: SharedStream, events_max: u64) -> Self {
        Self { shard, stream, events_max, events_goal: events_max, attempts: None }
    }

    /// Halves the next transaction after this one failed. Otherwise a transaction that exceeds the time
    /// limit, because many of its rows are rejected or because the disk is slow, would fail at every attempt.
    pub fn shrink(&mut self, failed: &Transaction) {
        self.events_goal = (failed.events / 2).max(1);
    }

    /// Doubles the next transaction, up to the maximum, after one succeeded.
    pub fn grow(&mut self) {
        self.events_goal = (self.events_goal * 2).min(self.events_max);
    }

    /// Makes the requests of the next transaction from the front of `held`: at least one, unless `held` is
    /// empty.
    ///
    /// # Errors
    /// [`StreamError`] when an attempt at a suspect could not be noted.
    pub async fn build(&mut self, held: &HeldEntries) -> Result<Transaction, StreamError> {
        let mut transaction = Transaction::default();
        match held.front() {
            Some(first) if quarantine::is_suspect(&first.delivery) => {
                self.push_suspect(&mut transaction, first).await?;
            }
            _ => self.push_entries(&mut transaction, held),
        }
        Ok(transaction)
    }

    fn push_entries(&self, transaction: &mut Transaction, held: &HeldEntries) {
        for entry in held {
            let is_suspect = quarantine::is_suspect(&entry.delivery);
            if is_suspect || self.is_full(transaction) {
                break;
            }
            let requests = EntryRequests { shard: self.shard, delivery: &entry.delivery }.written();
            let mut left = requests.into_iter().skip(entry.written()).peekable();
            let before = transaction.requests.len();
            while !self.is_full(transaction)
                && let Some(request) = left.next()
            {
                transaction.push(entry, request);
            }
            let requests = transaction.requests.len() - before;
            transaction.parts.push(EntryPart { requests, is_last: left.peek().is_none() });
        }
    }

    fn is_full(&self, transaction: &Transaction) -> bool {
        transaction.events >= self.events_goal || transaction.bytes >= TRANSACTION_BYTES_MAX
    }

    /// Adds the next batch of a suspect, or dead-letters it when too many attempts at it never returned.
    async fn push_suspect(
        &mut self,
        transaction: &mut Transaction,
        suspect: &HeldEntry,
    ) -> Result<(), StreamError> {
        let attempts = match self.attempts {
            Some(attempts) => attempts,
            None => self.stream.note_attempt(self.shard, suspect.delivery.id).await?,
        };
        self.attempts = Some(attempts);
        let requests = EntryRequests { shard: self.shard, delivery: &suspect.delivery };
        let (requests, at_once) = match quarantine::handling(attempts) {
            Handling::Write => (requests.written(), 1),
            Handling::SetBatchAside { reason } => (requests.set_aside(&reason), 1),
            Handling::SetEntryAside { reason } => (requests.unread(&reason), usize::MAX),
        };
        let mut left = requests.into_iter().skip(suspect.written()).peekable();
        left.by_ref().take(at_once).for_each(|request| transaction.push(suspect, request));
        let part = EntryPart { requests: transaction.requests.len(), is_last: left.peek().is_none() };
        transaction.parts.push(part);
        Ok(())
    }

    /// Call it after a commit, before [`Transaction::record`]. Attempts that did not return do not count
    /// against the next batch of a suspect once a batch of it was written.
    pub async fn committed(
        &mut self,
        held: &HeldEntries,
        transaction: &Transaction,
        outcomes: &[WriteOutcome],
    ) {
        let Some(attempts) = self.attempts else { return };
        let is_complete = transaction.parts.last().is_some_and(|part| part.is_last);
        if is_complete {
            // The settlement clears them.
            self.attempts = None;
        } else if attempts > 1 && outcomes.iter().any(|outcome| !outcome.redelivered) {
            // The attempt that is noted counts for the next batch as well. It is the first at that batch,
            // also when earlier ones cannot be cleared.
            self.attempts = Some(1);
            self.clear_attempts(held.front()).await;
        }
    }

    /// Forgets the attempt at a suspect that was written alone and has returned, with an error of any kind:
    /// it has not ended the process. An attempt that cannot be forgotten is not noted again.
    pub async fn clear_attempts(&mut self, first: Option<&HeldEntry>) {
        let Some(suspect) = first.filter(|entry| quarantine::is_suspect(&entry.delivery)) else { return };
        let id = suspect.delivery.id;
        match self.stream.forget_attempts(self.shard, id).await {
            Ok(()) => self.attempts = None,
            Err(error) => {
                tracing::warn!(%id, %error, "the attempt at a suspect could not be cleared and counts against it");
            }
        }
    }

    /// Call it when the lane drops the entries that it holds.
    pub fn reset(&mut self) {
        self.attempts = None;
    }
}
