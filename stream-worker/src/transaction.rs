//! Builds the write requests of one transaction from the entries that a lane holds: unpacks the entries, and
//! isolates suspects.

use std::collections::VecDeque;

use millrace_event::entry::{Damage, id_of_damaged};
use millrace_event::plan::ProjectId;
use millrace_store::{Payload, WriteOutcome, WriteRequest};
use millrace_stream::{Delivery, EntryId, Settlement, SharedStream, StreamError};

use crate::quarantine;

/// Unpacked bytes of one transaction, at most, not counting its last entry.
const TRANSACTION_BYTES_MAX: usize = 32 << 20;

/// The entries of one transaction, in the order in which the lane holds them.
#[derive(Default)]
pub struct Transaction {
    pub requests: Vec<WriteRequest>,
    /// Packed bytes of each request's entry, as the stream counts them.
    packed_bytes: Vec<u32>,
    events: u64,
    /// Unpacked bytes of all requests.
    bytes: usize,
}

impl Transaction {
    /// The settlements of the entries after the commit. `outcomes` has one outcome per request, in order.
    pub fn settlements(&self, outcomes: &[WriteOutcome]) -> Vec<Settlement> {
        let requests = self.requests.iter().zip(&self.packed_bytes).zip(outcomes);
        let settlement = |((request, &bytes), written): ((&WriteRequest, &u32), &WriteOutcome)| {
            let WriteRequest { entry, batch_id, project, count, .. } = *request;
            Settlement { id: entry, batch_id, project, count, bytes, outcome: written.outcome }
        };
        requests.map(settlement).collect()
    }

    fn push(&mut self, request: WriteRequest, packed_bytes: usize) {
        self.events += u64::from(request.count);
        self.bytes += match &request.payload {
            Payload::Rows(rows) => rows.len(),
            Payload::DeadLetter { raw, .. } => raw.len(),
        };
        self.requests.push(request);
        self.packed_bytes.push(u32::try_from(packed_bytes).unwrap_or(u32::MAX));
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
}

impl TransactionBuilder {
    pub fn new(shard: u16, stream: SharedStream, events_max: u64) -> Self {
        Self { shard, stream, events_max, events_goal: events_max }
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

    /// Unpacks the entries of the next transaction from the front of `held`: at least one, unless `held` is
    /// empty.
    ///
    /// # Errors
    /// [`StreamError`] when an attempt at a suspect could not be noted.
    pub async fn build(&self, held: &VecDeque<Delivery>) -> Result<Transaction, StreamError> {
        let mut transaction = Transaction::default();
        for delivery in held {
            if quarantine::is_suspect(delivery) {
                if transaction.requests.is_empty() {
                    self.push_suspect(&mut transaction, delivery).await?;
                }
                break;
            }
            if transaction.events >= self.events_goal || transaction.bytes >= TRANSACTION_BYTES_MAX {
                break;
            }
            self.push(&mut transaction, delivery);
        }
        Ok(transaction)
    }

    /// Forgets the attempt at a suspect that was written alone and has returned, with an error of any kind:
    /// it has not ended the process.
    pub async fn clear_attempts(&self, first: Option<&Delivery>) {
        let Some(suspect) = first.filter(|delivery| quarantine::is_suspect(delivery)) else { return };
        if let Err(error) = self.stream.forget_attempts(self.shard, suspect.id).await {
            let id = suspect.id;
            tracing::warn!(%id, %error, "the attempt at a suspect could not be cleared and counts against it");
        }
    }

    /// Adds a suspect, or dead-letters it when too many attempts at it never returned.
    async fn push_suspect(
        &self,
        transaction: &mut Transaction,
        delivery: &Delivery,
    ) -> Result<(), StreamError> {
        let attempts = self.stream.note_attempt(self.shard, delivery.id).await?;
        let Some(reason) = quarantine::quarantine_reason(attempts) else {
            self.push(transaction, delivery);
            return Ok(());
        };
        let damage = match &delivery.packed {
            Ok(packed) => Damage {
                reason,
                batch_id: Some(packed.batch_id),
                project: Some(packed.project),
                count: Some(packed.count),
                raw: packed.data.clone(),
            },
            Err(damage) => Damage { reason, ..damage.clone() },
        };
        self.push_dead_letter(transaction, delivery.id, damage);
        Ok(())
    }

    fn push(&self, transaction: &mut Transaction, delivery: &Delivery) {
        let packed = match &delivery.packed {
            Ok(packed) => packed,
            Err(damage) => return self.push_dead_letter(transaction, delivery.id, damage.clone()),
        };
        match packed.unpack() {
            Ok(rows) => {
                let request = WriteRequest {
                    entry: delivery.id,
                    shard: self.shard,
                    batch_id: packed.batch_id,
                    project: packed.project,
                    count: packed.count,
                    payload: Payload::Rows(rows),
                };
                transaction.push(request, packed.data.len());
            }
            Err(damage) => self.push_dead_letter(transaction, delivery.id, damage),
        }
    }

    fn push_dead_letter(&self, transaction: &mut Transaction, id: EntryId, damage: Damage) {
        let (shard, reason) = (self.shard, &damage.reason);
        tracing::error!(%id, shard, %reason, "the entry goes to the dead letters");
        let packed_bytes = damage.raw.len();
        let request = WriteRequest {
            entry: id,
            shard: self.shard,
            batch_id: damage.batch_id.unwrap_or_else(|| id_of_damaged(self.shard, id)),
            project: damage.project.unwrap_or(ProjectId(0)),
            count: damage.count.unwrap_or(1),
            payload: Payload::DeadLetter { reason: damage.reason, raw: damage.raw },
        };
        transaction.push(request, packed_bytes);
    }
}
