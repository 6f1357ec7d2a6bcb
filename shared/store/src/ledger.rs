//! The key of a stream entry in the ledger. Pure, and the same for every store.

use uuid::Uuid;

use millrace_event::event::derived_uuid;
use millrace_event::{BatchGroup, BatchId, EntryId};

/// The last receive time that is accepted (end of the year 9999). An entry with a later time waits for an
/// operator.
const RECEIVED_MS_MAX: u64 = 253_402_300_799_999;

/// Where the ledger has a batch of an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct LedgerKey {
    pub(super) batch_id: BatchId,
    pub(super) received_us: i64,
    pub(super) seq: i64,
    pub(super) shard: i32,
    /// The batch has a row of its own, although its id names a group: the entry's row for this group was
    /// written before, without the batch.
    is_alone: bool,
}

impl LedgerKey {
    /// The key of the first entry of a batch. `None` when its receive time is out of range.
    pub(super) fn new(batch_id: BatchId, entry: EntryId, shard: u16) -> Option<Self> {
        if entry.ms > RECEIVED_MS_MAX {
            return None;
        }
        let received_us = i64::try_from(entry.ms).ok()? * 1_000;
        Some(Self {
            batch_id,
            received_us,
            seq: entry.seq.cast_signed(),
            shard: i32::from(shard),
            is_alone: false,
        })
    }

    /// The group whose row has the batch. `None` when the batch has a row of its own. Only PostgreSQL has
    /// rows for groups.
    pub(super) fn group(&self) -> Option<BatchGroup> {
        if self.is_alone { None } else { BatchGroup::of(self.batch_id) }
    }

    /// Whether this is a batch of this entry.
    pub(super) fn is_of(&self, entry: EntryId, shard: u16) -> bool {
        Self::new(self.batch_id, entry, shard).is_some_and(|key| {
            (key.received_us, key.seq, key.shard) == (self.received_us, self.seq, self.shard)
        })
    }

    /// The key of the batch in a row of its own.
    pub(super) fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }

    /// The key of an entry whose batch was written before from another entry. Its own batch id lets a
    /// redelivery of either entry be recognized.
    pub(super) fn of_reused_key(self) -> Self {
        let (received, seq) = (self.received_us.to_be_bytes(), self.seq.to_be_bytes());
        let batch_id: Uuid = derived_uuid(&[b"admitted again", self.batch_id.as_bytes(), &received, &seq]);
        Self { batch_id, is_alone: false, ..self }
    }
}
