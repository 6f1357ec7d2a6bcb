//! Changes the number of shards of an installation.
//!
//! A project belongs to the shard that its number and the number of shards select, and its counters are
//! there. With another number of shards, most projects move. So the number changes only while no event is in
//! the stream: every shard is fenced, found empty, and then the store records the new number, with epochs
//! that no shard holds. Each shard is therefore rebuilt from the ledger before it admits anything, as after
//! the loss of a stream.
//!
//! This module must never change the record while an entry is in the stream, and never change an entry or a
//! counter.

use millrace_store::{Store, StoreError};
use millrace_stream::{Stream, StreamError};
use uuid::Uuid;

/// Why the number of shards was not changed. The call may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Events that were accepted are not stored yet.
    #[error(
        "{events} accepted events are still in the stream; stop every ingest-api, let the workers store them, and repeat \
         the command"
    )]
    Waiting { events: u64 },
    /// A process started or rebuilt a shard at this moment.
    #[error("another process changed a shard at this moment; repeat the command")]
    Conflict,
}

/// Records that the installation has `shards` shards. `stream` must have the recorded number of them.
///
/// Running processes may neither admit nor settle afterwards, until they are started with the new number.
/// When this returns an error, they continue with the old number: a fence that is left in the stream is
/// recognized as an epoch that differs from the recorded one, and the shard is rebuilt.
///
/// # Errors
/// [`ShardsError`]; the recorded number is the old one then.
pub async fn change(stream: &dyn Stream, store: &dyn Store, shards: u16) -> Result<(), ShardsError> {
    // Without a fence first: a process that serves should not be disturbed when the answer is no.
    check_empty(stream).await?;
    let mut recorded = Vec::new();
    for shard in 0..stream.shards() {
        recorded.push(store.epoch(shard).await?);
    }
    for shard in 0..stream.shards() {
        stream.fence(shard, Uuid::new_v4()).await?;
    }
    // Nothing is admitted from here on, because admission needs the epoch. A process that rebuilds a shard
    // meanwhile changes the record, and the next step then changes nothing.
    check_empty(stream).await?;
    if store.replace_shards(&recorded, shards).await? { Ok(()) } else { Err(ShardsError::Conflict) }
}

async fn check_empty(stream: &dyn Stream) -> Result<(), ShardsError> {
    let backlog = stream.backlog().await?;
    if backlog.events > 0 {
        return Err(ShardsError::Waiting { events: backlog.events });
    }
    // Entries that cannot be read are not in the backlog.
    for shard in 0..stream.shards() {
        let batches = stream.pending_batches(shard).await?;
        if !batches.is_empty() {
            let events = batches.iter().map(|batch| u64::from(batch.count)).sum::<u64>();
            return Err(ShardsError::Waiting { events: events.max(1) });
        }
    }
    Ok(())
}
