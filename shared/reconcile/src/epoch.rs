//! The epoch: how a stream that has lost its data is detected, and how its counters are restored.
//!
//! Each shard of the stream holds a random epoch, and the store records it. While the two are equal, the
//! stream's counters (rate, quota, accepted) are trusted. When the stream holds none, or another one, it was
//! wiped, restored or replaced: it refuses to admit and to settle until [`reconcile`] has rebuilt its
//! counters from the ledger and has set a new epoch.

use std::time::Duration;

use millrace_store::{Store, StoreError};
use millrace_stream::{Stream, StreamError};
use uuid::Uuid;

use crate::metrics;

/// How long a rebuild usually takes. If one takes longer, another process starts its own, and the first one
/// then finds its fence replaced.
const REBUILD_TIME: Duration = Duration::from_millis(500);

/// The result of [`reconcile`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EpochCheck {
    /// Stream and store agree.
    Agreement,
    /// The counters of this many shards were rebuilt, and these shards have a new epoch.
    Rebuild(u16),
}

/// The reason why the epochs of stream and store were not compared, or still differ. The call may be
/// repeated.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream has another epoch than the recorded one, or none, and this process may not give it one.
    #[error("shard {shard} has another epoch than the recorded one, and it must not be given a new one yet")]
    Forbidden { shard: u16 },
    /// The stream's contents changed while they were counted, or another process rebuilt the shard first.
    #[error("shard {shard} changed while its counters were rebuilt")]
    Conflict { shard: u16 },
    /// This process was started with another number of shards than the installation has.
    #[error("{}", shards_differ(*set, *recorded))]
    Shards { set: u16, recorded: u16 },
    /// Stream and store took too long.
    #[error("stream and store did not finish the comparison in time")]
    Timeout,
}

impl EpochError {
    /// As [`StoreError::without_addresses`].
    pub fn without_addresses(&self) -> String {
        match self {
            Self::Store(error) => error.without_addresses(),
            other => other.to_string(),
        }
    }
}

/// Compares the epochs of every shard, rebuilds the counters where they differ, and makes the stream trust
/// the result.
///
/// Any number of processes may call this at any time: the store's record is changed only from the value that
/// was read, and the stream's counters only while its contents are those that were counted.
///
/// # Errors
/// [`EpochError`]; no epoch is trusted that was not trusted before.
pub async fn reconcile(stream: &dyn Stream, store: &dyn Store) -> Result<EpochCheck, EpochError> {
    reconcile_if(stream, store, || true).await
}

/// As [`reconcile`], but rebuilds only if `may_rebuild` allows it, which is asked directly before. The store
/// is shared: a process that has been given the address of a wrong stream must not take the epoch away from
/// all others.
///
/// # Errors
/// [`EpochError`]; no epoch is trusted that was not trusted before.
pub async fn reconcile_if(
    stream: &dyn Stream,
    store: &dyn Store,
    may_rebuild: impl Fn() -> bool + Send,
) -> Result<EpochCheck, EpochError> {
    let mut rebuilt = 0;
    check_shards(stream, store).await?;
    // The last shard first: its record is the record of their number.
    for shard in (0..stream.shards()).rev() {
        let mut recorded = store.epoch(shard).await?;
        let mut held = stream.epoch(shard).await?;
        if recorded.is_some() && recorded != held {
            // Usually another process is between recording the epoch and setting it: give it the time to
            // finish.
            tokio::time::sleep(REBUILD_TIME).await;
            recorded = store.epoch(shard).await?;
            held = stream.epoch(shard).await?;
        }
        let epoch = match recorded {
            Some(epoch) if held == recorded => epoch,
            _ if !may_rebuild() => return Err(EpochError::Forbidden { shard }),
            _ => {
                // After the epoch was read: should the number of shards change now, its record is not
                // `recorded` any more.
                check_shards(stream, store).await?;
                rebuilt += 1;
                rebuild(stream, store, shard, recorded).await?
            }
        };
        stream.trust_epoch(shard, epoch);
    }
    Ok(if rebuilt == 0 { EpochCheck::Agreement } else { EpochCheck::Rebuild(rebuilt) })
}

/// The words for a number of shards that is not the recorded one.
pub fn shards_differ(set: u16, recorded: u16) -> String {
    format!(
        "STREAM_SHARDS={set}: this installation has {recorded} on record; set STREAM_SHARDS={recorded}, as in its other \
         programs, or change the number with `millrace shards set`"
    )
}

/// With another number of shards, projects would be looked for in the wrong shards. An installation that has
/// never served has none on record.
async fn check_shards(stream: &dyn Stream, store: &dyn Store) -> Result<(), EpochError> {
    let (set, recorded) = (stream.shards(), store.shards_recorded().await?);
    if recorded == 0 || recorded == set { Ok(()) } else { Err(EpochError::Shards { set, recorded }) }
}

/// Gives the shard a new epoch. The record comes first: if this process dies before the stream has the epoch,
/// the two still differ and the next caller starts over. In the opposite order, stale counters could be
/// trusted.
async fn rebuild(
    stream: &dyn Stream,
    store: &dyn Store,
    shard: u16,
    recorded: Option<Uuid>,
) -> Result<Uuid, EpochError> {
    let epoch = Uuid::new_v4();
    if !store.replace_epoch(shard, recorded, epoch).await? {
        return Err(EpochError::Conflict { shard });
    }
    stream.fence(shard, epoch).await?;
    let pending = stream.pending_batches(shard).await?;
    let counters = store.counters_for_rebuild(shard, stream.shards(), &pending).await?;
    if !stream.rebuild(shard, epoch, &counters, &pending).await? {
        return Err(EpochError::Conflict { shard });
    }
    if recorded.is_none() && pending.is_empty() {
        tracing::info!(shard, %epoch, "the shard starts with its first epoch");
    } else {
        metrics::epoch_rebuilt();
        let pending = pending.len();
        tracing::warn!(shard, pending, %epoch, "the shard had lost its epoch; its counters are rebuilt");
    }
    Ok(epoch)
}
