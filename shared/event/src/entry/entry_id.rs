//! The position of an entry, and the batch id of one that names no batch.

use crate::event::{BatchId, derived_uuid};

/// The position of an entry in its stream, which includes the receive time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct EntryId {
    /// Milliseconds since 1970 by the stream's clock. They never decrease within a stream.
    pub ms: u64,
    /// The sequence number within one millisecond.
    pub seq: u64,
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The batch id in the ledger for a damaged entry whose own batch ids are not readable.
pub fn id_of_damaged(shard: u16, entry: EntryId) -> BatchId {
    derived_uuid(&[b"damaged entry", &shard.to_be_bytes(), &entry.ms.to_be_bytes(), &entry.seq.to_be_bytes()])
}
