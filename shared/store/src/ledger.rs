//! Where an entry of the stream stands in the ledger. Pure, and the same for every store.

use uuid::Uuid;

use millrace_event::event::derived_uuid;
use millrace_event::{BatchId, EntryId};

/// Receive times beyond this (year 9999) are no times; an entry that claims one waits for an operator.
const RECEIVED_MS_MAX: u64 = 253_402_300_799_999;

/// The primary key of `batches`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct LedgerKey {
    pub(super) batch_id: BatchId,
    pub(super) received_us: i64,
    pub(super) seq: i64,
    pub(super) shard: i32,
}

impl LedgerKey {
    /// Where `entry` of `batch_id` stands in the ledger when it is the batch's first. `None`: it was received at no time
    /// there is.
    pub(super) fn new(batch_id: BatchId, entry: EntryId, shard: u16) -> Option<Self> {
        if entry.ms > RECEIVED_MS_MAX {
            return None;
        }
        let received_us = i64::try_from(entry.ms).ok()? * 1_000;
        Some(Self { batch_id, received_us, seq: entry.seq.cast_signed(), shard: i32::from(shard) })
    }

    /// Where it stands when the batch had been written before: the id tells them apart, so that a redelivery of
    /// either is recognised.
    pub(super) fn admitted_again(self) -> Self {
        let place = [&self.received_us.to_be_bytes()[..], &self.seq.to_be_bytes()[..]];
        let batch_id: Uuid = derived_uuid(&[b"admitted again", self.batch_id.as_bytes(), place[0], place[1]]);
        Self { batch_id, ..self }
    }
}
