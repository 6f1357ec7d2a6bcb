//! The epoch: how a stream that has lost its data is detected, and how its counters are restored.
//!
//! Each shard of the stream holds a random epoch, and the store records it. While the two are equal, the
//! stream's counters (rate, quota, accepted) are trusted. When the stream holds none, or another one, it was
//! wiped, restored or replaced: it refuses to admit and to settle until [`reconcile`] has rebuilt its
//! counters from the ledger and has set a new epoch.
//!
//! An older copy of the data has the same epoch. It is recognized by its position, which is then lower than
//! an entry that was written or acknowledged, and by batches that are missing ([`crate::verdict`]).

use std::time::Duration;

use millrace_event::EntryId;
use millrace_store::{Store, StoreError};
use millrace_stream::{Stream, StreamError};
use uuid::Uuid;

use crate::loss;
use crate::metrics;
use crate::verdict::{Evidence, Verdict};

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
    /// The stream went back in time, and this process may not give it a new epoch.
    #[error("shard {shard} went back in time, and its counters must not be rebuilt yet")]
    RolledBack { shard: u16 },
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

/// Compares every shard with the store's record, rebuilds the counters where they cannot be trusted, and
/// makes the stream trust the result.
///
/// Any number of processes may call this at any time: the store's record is changed only from the value that
/// was read, and the stream's counters only while its contents are those that were counted.
///
/// # Errors
/// [`EpochError`]; no epoch is trusted that was not trusted before.
pub async fn reconcile(stream: &dyn Stream, store: &dyn Store) -> Result<EpochCheck, EpochError> {
    let mut rebuilt = 0;
    // The last shard first: its record is the record of their number.
    for shard in (0..stream.shards()).rev() {
        rebuilt += u16::from(reconcile_shard(stream, store, shard, || true).await? != EpochCheck::Agreement);
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
/// never served has none on record. Its last shard is recorded first, because that records their number.
async fn check_shards(stream: &dyn Stream, store: &dyn Store, shard: u16) -> Result<(), EpochError> {
    match (stream.shards(), store.shards_recorded().await?) {
        (set, recorded) if recorded == set => Ok(()),
        (set, 0) if shard + 1 == set => Ok(()),
        (_, 0) => Err(EpochError::Conflict { shard }),
        (set, recorded) => Err(EpochError::Shards { set, recorded }),
    }
}

/// As [`reconcile`], for one shard. Rebuilds only if `may_rebuild` allows it, which is asked directly before.
/// The store is shared: a process that has been given the address of a wrong stream must not take the epoch
/// away from all others.
///
/// # Errors
/// [`EpochError`]; no epoch is trusted that was not trusted before.
pub async fn reconcile_shard(
    stream: &dyn Stream,
    store: &dyn Store,
    shard: u16,
    may_rebuild: impl Fn() -> bool + Send,
) -> Result<EpochCheck, EpochError> {
    let mut record = store.stream_record(shard).await?;
    let mut witness = stream.witness(shard).await?;
    if record.epoch.is_some() && record.epoch != witness.epoch {
        // Usually another process is between recording the epoch and setting it: give it the time to finish.
        tokio::time::sleep(REBUILD_TIME).await;
        record = store.stream_record(shard).await?;
        witness = stream.witness(shard).await?;
    }
    let lost = match witness.missing.is_empty() {
        true => Vec::new(),
        // The stream may forget what is in the ledger.
        false => store.not_in_ledger(&witness.missing).await?,
    };
    let evidence = Evidence {
        recorded: record.epoch,
        held: witness.epoch,
        trusted: witness.trusted,
        last: witness.last,
        written: record.position,
        acknowledged: witness.acknowledged,
        is_lacking: !lost.is_empty(),
    };
    let verdict = evidence.verdict();
    if verdict != Verdict::Trust || witness.trusted != record.epoch {
        check_shards(stream, store, shard).await?;
    }
    match (verdict, may_rebuild()) {
        (Verdict::Trust, _) | (_, true) => {}
        (Verdict::Rebuild, false) => return Err(EpochError::Forbidden { shard }),
        (Verdict::RolledBack, false) => return Err(EpochError::RolledBack { shard }),
    }
    if verdict == Verdict::RolledBack {
        let Evidence { last, written, acknowledged, .. } = evidence;
        tracing::error!(
            shard, %last, %written, %acknowledged,
            "the stream went back in time: a replica took over, a backup was restored, or its server lost its last writes"
        );
    }
    loss::record(store, shard, &lost).await?;
    let (epoch, check) = match (verdict, record.epoch) {
        (Verdict::Trust, Some(epoch)) => (epoch, EpochCheck::Agreement),
        (_, recorded) => {
            let rebuild = Rebuild { shard, recorded, floor: evidence.floor() };
            (rebuild.run(stream, store).await?, EpochCheck::Rebuild(1))
        }
    };
    if verdict == Verdict::RolledBack {
        metrics::stream_rolled_back();
    }
    stream.trust_epoch(shard, epoch);
    Ok(check)
}

/// A shard that gets a new epoch.
struct Rebuild {
    shard: u16,
    recorded: Option<Uuid>,
    /// The shard continues above this entry.
    floor: EntryId,
}

impl Rebuild {
    /// Gives the shard a new epoch. The record comes first: if this process dies before the stream has the
    /// epoch, the two still differ and the next caller starts over. In the opposite order, stale counters
    /// could be trusted.
    async fn run(&self, stream: &dyn Stream, store: &dyn Store) -> Result<Uuid, EpochError> {
        let Self { shard, recorded, floor } = *self;
        let epoch = Uuid::new_v4();
        if !store.replace_epoch(shard, recorded, epoch).await? {
            return Err(EpochError::Conflict { shard });
        }
        stream.fence(shard, epoch).await?;
        let pending = stream.pending_batches(shard).await?;
        let counters = store.counters_for_rebuild(shard, stream.shards(), &pending).await?;
        let charged = stream.pending_charges(shard).await?;
        let limits = store.limits_for_rebuild(shard, stream.shards(), &charged).await?;
        if !stream.restore_limits(shard, epoch, &limits).await? {
            return Err(EpochError::Conflict { shard });
        }
        if !stream.rebuild(shard, epoch, &counters, &pending, floor).await? {
            return Err(EpochError::Conflict { shard });
        }
        if recorded.is_none() && pending.is_empty() {
            tracing::info!(shard, %epoch, "the shard starts with its first epoch");
        } else {
            metrics::epoch_rebuilt();
            let pending = pending.len();
            tracing::warn!(shard, pending, %epoch, "the counters of the shard could not be trusted and are rebuilt");
        }
        Ok(epoch)
    }
}
