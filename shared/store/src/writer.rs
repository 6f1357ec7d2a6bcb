//! The write requests of a lane, and the connection through which it writes them.

use async_trait::async_trait;
use bytes::Bytes;
use millrace_event::plan::ProjectId;
use millrace_event::{BatchId, EntryId, Epoch, Outcome};

use crate::error::WriteError;
use crate::limits::{RequestCharges, RequestRefunds};
use crate::replication::ReplicationProgress;

/// One stream entry to be stored.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// The id of the entry in its stream; `entry.ms` is when it was received.
    pub entry: EntryId,
    pub shard: u16,
    /// For a damaged entry without a readable id: [`millrace_event::entry::id_of_damaged`].
    pub batch_id: BatchId,
    /// The project that the events are counted for. `ProjectId(0)` when the entry was too damaged to tell.
    pub project: ProjectId,
    /// Events in the batch, as accepted.
    pub count: u32,
    pub payload: Payload,
}

/// The contents of a [`WriteRequest`].
#[derive(Clone, Debug)]
pub enum Payload {
    /// Exactly `count` rows as [`millrace_event::row`] writes them, checked by
    /// [`millrace_event::entry::PackedEntry::unpack`].
    Rows(Bytes),
    /// The whole entry goes to the dead letters: one letter, counting `count` events.
    DeadLetter {
        /// For operators.
        reason: String,
        /// The contents of the entry, as far as they could be read.
        raw: Bytes,
    },
}

/// The result of one [`WriteRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WriteOutcome {
    /// The outcome of its events, now or when the same entry was first written.
    pub outcome: Outcome,
    /// The entry was in the ledger: this write has changed nothing.
    pub redelivered: bool,
}

/// One lane's connection to the store.
#[async_trait]
pub trait Writer: Send {
    /// From now on, commits entries of this shard only while this is its recorded epoch. A rebuild of the
    /// shard's counters first records another epoch, and then counts what the ledger and the stream have. An
    /// entry that was read before and is gone from the stream is in neither, and must not be committed later.
    fn require_epoch(&mut self, shard: u16, epoch: Epoch);

    /// Stores these entries in one transaction: events, ledger, usage, dead letters. Returns one
    /// [`WriteOutcome`] for each request, in order. After an error the writer must be dropped and a new one
    /// opened.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was stored, unless it is [`WriteError::Environment`].
    async fn write(&mut self, requests: &[WriteRequest]) -> Result<Vec<WriteOutcome>, WriteError> {
        Ok(self.write_charged(requests, &RequestCharges::new()).await?.0)
    }

    /// As [`Writer::write`], for batches that were charged to limits of customers: records what their stored
    /// events have used, in the same transaction. Also returns what the others give back, now or when the
    /// same entry was first written.
    ///
    /// # Errors
    /// As of [`Writer::write`].
    async fn write_charged(
        &mut self,
        requests: &[WriteRequest],
        charges: &RequestCharges,
    ) -> Result<(Vec<WriteOutcome>, RequestRefunds), WriteError>;

    /// The place in the log below which everything is that was committed or found until now, and the place
    /// that this many standbys have on disk. After an error the writer must be dropped.
    ///
    /// # Errors
    /// As of [`Writer::write`], for a role that may not see the standbys, and for a store without servers.
    async fn replication(&mut self, standbys: u16) -> Result<ReplicationProgress, WriteError> {
        let message = format!("this store has no {standbys} standbys; set SETTLE_AFTER=commit");
        Err(WriteError::Environment { sqlstate: "0A000".to_owned(), message })
    }
}
