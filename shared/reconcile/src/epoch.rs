//! The epoch: how a stream that has lost its memory is noticed, and how its counters come back.
//!
//! The stream bears a random epoch and the store has it on record. While they agree, the stream's counters (rate,
//! quota, accepted) are trusted. When the stream bears none, or another, it was wiped, restored or swapped: it refuses
//! to admit and to settle until its counters are rebuilt from the ledger and a new epoch is set, here.

use std::time::Duration;

use uuid::Uuid;

use crate::metrics;
use millrace_store::{Store, StoreError};
use millrace_stream::{Stream, StreamError};

/// How long a rebuild usually takes. Longer, and another process begins its own; the first one then finds its fence gone.
const REBUILD_TIME: Duration = Duration::from_millis(500);

/// What [`reconcile`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Stream and store agree.
    Agreed,
    /// The counters of this many shards were rebuilt and have a new epoch.
    Rebuilt(u16),
}

/// Why the epoch could not be settled; try again.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// See [`StreamError`].
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream's contents moved while they were counted, or another process was faster.
    #[error("shard {shard} changed while its counters were rebuilt")]
    Moved {
        /// Which.
        shard: u16,
    },
}

/// Compares the epochs of every shard, rebuilds the counters where they differ, and makes the stream trust the result.
///
/// Safe to call from any number of processes at any time: the store's record is changed only from the value that was
/// read, and the stream's counters only while its contents are those that were counted.
///
/// # Errors
/// [`EpochError`]; nothing is trusted that was not before.
pub async fn reconcile(stream: &dyn Stream, store: &dyn Store) -> Result<Found, EpochError> {
    let mut rebuilt = 0;
    for shard in 0..stream.shards() {
        let mut recorded = store.epoch(shard).await?;
        let mut borne = stream.epoch(shard).await?;
        if recorded.is_some() && recorded != borne {
            // Between record and stream lies somebody else's rebuild, as a rule: leave it the time to end.
            tokio::time::sleep(REBUILD_TIME).await;
            recorded = store.epoch(shard).await?;
            borne = stream.epoch(shard).await?;
        }
        let agreed = match recorded {
            Some(epoch) if borne == recorded => epoch,
            _ => {
                rebuilt += 1;
                rebuild(stream, store, shard, recorded).await?
            }
        };
        stream.trust_epoch(shard, agreed);
    }
    Ok(if rebuilt == 0 { Found::Agreed } else { Found::Rebuilt(rebuilt) })
}

/// Gives the shard a new epoch. The record comes first: if we die before the stream has it, the two still differ and
/// the next caller starts over; the other way round, stale counters could be trusted.
async fn rebuild(
    stream: &dyn Stream,
    store: &dyn Store,
    shard: u16,
    recorded: Option<Uuid>,
) -> Result<Uuid, EpochError> {
    let epoch = Uuid::new_v4();
    if !store.replace_epoch(shard, recorded, epoch).await? {
        return Err(EpochError::Moved { shard });
    }
    stream.fence(shard, epoch).await?;
    let pending = stream.pending_batches(shard).await?;
    let counters = store.counters_for_rebuild(shard, stream.shards(), &pending).await?;
    if !stream.rebuild(shard, epoch, &counters, &pending).await? {
        return Err(EpochError::Moved { shard });
    }
    if recorded.is_none() && pending.is_empty() {
        tracing::info!(shard, %epoch, "shard {shard} begins, under epoch {epoch}");
    } else {
        metrics::epoch_rebuilt();
        tracing::warn!(shard, pending = pending.len(), %epoch, "shard {shard} had lost its epoch; its counters are rebuilt");
    }
    Ok(epoch)
}
