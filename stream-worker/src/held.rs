//! An entry that a lane holds, and which of its batches are committed.

use std::collections::VecDeque;

use millrace_event::limit::Refund;
use millrace_store::{WriteOutcome, WriteRequest};
use millrace_stream::{Delivery, SettledBatch, Settlement};

/// An entry that was read and is not settled.
#[derive(Clone, Debug)]
pub struct HeldEntry {
    pub delivery: Delivery,
    /// Requests that are committed, from its first on.
    written: usize,
    settled: Vec<SettledBatch>,
    /// What is given back, by the place of the batch in `settled`.
    refunds: Vec<(usize, Refund)>,
}

/// The entries of a lane, in order.
pub type HeldEntries = VecDeque<HeldEntry>;

impl HeldEntry {
    pub fn new(delivery: Delivery) -> Self {
        Self { delivery, written: 0, settled: Vec::new(), refunds: Vec::new() }
    }

    /// Requests of the entry that are committed, from its first on.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Records that the next request of the entry is committed, and what it gives back to limits.
    pub fn record(&mut self, request: &WriteRequest, outcome: &WriteOutcome, refunds: &[Refund]) {
        // What follows the batches is not settled: see `TransactionBuilder`.
        if self.written < self.batches() {
            let place = self.settled.len();
            self.refunds.extend(refunds.iter().map(|refund| (place, refund.clone())));
            let WriteRequest { batch_id, project, count, .. } = *request;
            self.settled.push(SettledBatch { batch_id, project, count, outcome: outcome.outcome });
        }
        self.written += 1;
    }

    /// The settlement of the entry, once all of its requests are committed.
    pub fn into_settlement(self) -> Settlement {
        let (_, bytes) = self.size();
        Settlement {
            id: self.delivery.id,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            batches: self.settled,
            refunds: self.refunds,
        }
    }

    /// Events and packed bytes.
    pub fn size(&self) -> (u64, usize) {
        match &self.delivery.entry {
            Ok(entry) => (entry.events(), entry.data.len()),
            Err(damage) => (1, damage.raw.len()),
        }
    }

    /// An entry that names no batch counts as one.
    fn batches(&self) -> usize {
        self.delivery.entry.as_ref().map_or(1, |entry| entry.admitted().count())
    }
}
