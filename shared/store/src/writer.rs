//! What a lane writes, and the connection it writes through.

use async_trait::async_trait;
use bytes::Bytes;
use millrace_event::plan::ProjectId;
use millrace_event::{BatchId, EntryId, Outcome};

use crate::error::WriteError;

/// One stream entry to be stored.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// Its place in the stream; `entry.ms` is when it was received.
    pub entry: EntryId,
    /// The shard it came from.
    pub shard: u16,
    /// The batch. For an entry too damaged to tell: [`millrace_event::entry::id_of_damaged`].
    pub batch_id: BatchId,
    /// The project that is metered. `ProjectId(0)` when the entry was too damaged to tell.
    pub project: ProjectId,
    /// Events in the batch, as admitted.
    pub count: u32,
    /// What to store.
    pub body: Payload,
}

/// The contents of a [`WriteRequest`].
#[derive(Clone, Debug)]
pub enum Payload {
    /// Rows as [`millrace_event::row`] writes them, exactly `count` of them, checked by [`millrace_event::entry::PackedBatch::unpack`].
    Rows(Bytes),
    /// The whole entry goes to the dead letters: one letter, counting `count` events.
    DeadLetter {
        /// Why, for operators.
        reason: String,
        /// What stood in the entry, as far as it could be read.
        raw: Bytes,
    },
}

/// What became of one [`WriteRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WriteOutcome {
    /// How its events ended, now or when the same entry was first written.
    pub outcome: Outcome,
    /// The ledger knew this very entry already: this write has changed nothing.
    pub redelivered: bool,
}

/// One lane's own connection to the store.
#[async_trait]
pub trait Writer: Send {
    /// Stores these entries in one transaction: events, ledger, usage, dead letters. One [`WriteOutcome`] per work, in
    /// order. After an error the writer must be dropped and a new one opened.
    async fn write(&mut self, works: &[WriteRequest]) -> Result<Vec<WriteOutcome>, WriteError>;
}
