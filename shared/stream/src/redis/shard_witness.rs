//! Recognizes a Redis that went back in time: a replica that was promoted, a restored backup, or a server
//! that lost the end of its file. Its epoch is that of the lost data, so the epoch cannot tell.
//!
//! Each new connection compares where the shards of its server stand with what this process has acknowledged,
//! before anything is admitted on it. A lower position proves a loss. On a server that this process has not
//! seen before, the position proves nothing, because another process may have admitted since; then the
//! markers of the last batches are looked up. A shard that lost anything is withdrawn: nothing is admitted on
//! it until a caller of [`super::witness::witness`] has decided.
//!
//! This module must never decide that a batch is lost (only the store knows), or look up markers again on a
//! server that has not changed.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::{join_all, try_join_all};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use uuid::Uuid;

use super::error::describe;
use super::keys::ShardKeys;
use super::{marker, reply, scripts};
use crate::witness::{AcknowledgedBatches, REMEMBERED_MAX};
use crate::{AcknowledgedBatch, BatchId, EntryId, Epoch, StreamError};

/// Markers looked up by one command.
pub(super) const CHUNK_MARKERS: usize = 500;
/// The marker of a younger batch has not expired, even if it was settled at once: see settle.lua. A second is
/// left for clocks that differ in speed and for the way.
const MARKER_SURELY_KEPT: Duration = Duration::from_secs(14);

/// What this process knows of all shards.
pub(super) struct ShardWitnesses {
    shards: Vec<ShardWitness>,
}

/// What this process knows of the shards that one link serves.
pub(super) struct LinkWitness {
    witnesses: Arc<ShardWitnesses>,
    shards: Range<u16>,
    /// The run of the server to which the last connection led; empty before the first.
    run: ArcSwap<String>,
}

/// What this process knows of one shard.
pub(super) struct ShardWitness {
    keys: ShardKeys,
    pub(super) acknowledged: AcknowledgedBatches,
    /// The epoch under which calls are sent, as text. `None` while it is withdrawn.
    trusted: ArcSwapOption<String>,
    decision: Mutex<Decision>,
}

/// The epoch that a call relies on.
#[derive(Clone, Copy)]
pub(super) struct TrustedEpoch<'a> {
    pub(super) known: &'a ShardWitness,
    pub(super) epoch: &'a str,
}

/// What was noticed, and what was decided on.
#[derive(Default)]
struct Decision {
    /// The epoch that was trusted last.
    trusted: Option<Epoch>,
    /// How often the trust was withdrawn, now and when the last witness began.
    withdrawn: u64,
    withdrawn_at_witness: u64,
    /// How often another run of the server was noticed: now, when the last witness began, and at the last
    /// decision.
    runs: u64,
    runs_at_witness: u64,
    runs_decided: u64,
    /// What the last witness missed.
    missing: HashSet<BatchId>,
}

impl ShardWitnesses {
    pub(super) fn new(shards: u16) -> Self {
        let capacity = REMEMBERED_MAX / usize::from(shards.max(1));
        let shard = |shard| ShardWitness {
            keys: ShardKeys::new(shard),
            acknowledged: AcknowledgedBatches::new(capacity),
            trusted: ArcSwapOption::empty(),
            decision: Mutex::default(),
        };
        Self { shards: (0..shards).map(shard).collect() }
    }

    pub(super) fn shard(&self, shard: u16) -> Option<&ShardWitness> {
        self.shards.get(usize::from(shard))
    }
}

impl TrustedEpoch<'_> {
    /// Whether the epoch is still trusted. A caller that already has its connection learns from this what was
    /// noticed when that connection was made. One that asks first, and then takes a connection, may send its
    /// call to a server that was recognized in between.
    pub(super) fn is_trusted(&self) -> bool {
        self.known.trusted.load().as_ref().is_some_and(|trusted| **trusted == self.epoch)
    }
}

impl LinkWitness {
    pub(super) fn new(witnesses: &Arc<ShardWitnesses>, shards: Range<u16>) -> Self {
        Self { witnesses: Arc::clone(witnesses), shards, run: ArcSwap::default() }
    }

    fn shards(&self) -> impl Iterator<Item = &ShardWitness> {
        self.shards.clone().filter_map(|shard| self.witnesses.shard(shard))
    }

    /// Compares the server at the other end of a new connection with what this process knows of its shards,
    /// and withdraws the shards that lost something.
    ///
    /// # Errors
    /// Why the server did not answer.
    pub(super) async fn inspect(&self, connection: &MultiplexedConnection) -> Result<(), String> {
        let (run, compared) = tokio::join!(
            run_of(connection.clone()),
            try_join_all(self.shards().map(|shard| shard.stands_where_it_stood(connection.clone()))),
        );
        let compared = compared?;
        let known = self.run.load_full();
        // A run that cannot be read may be another one.
        let is_another = run.as_ref().is_none_or(|run| **known != *run);
        for (shard, stands) in self.shards().zip(compared) {
            if !stands {
                shard.withdraw("its last entry is lower than one that this process has acknowledged");
            } else if is_another && shard.lacks_markers(connection.clone()).await? {
                shard.withdraw("batches that this process has acknowledged are missing");
            }
            if is_another {
                shard.decision().runs += 1;
            }
        }
        self.run.store(Arc::new(run.unwrap_or_default()));
        Ok(())
    }
}

impl ShardWitness {
    pub(super) fn trusted(&self) -> Option<Arc<String>> {
        self.trusted.load_full()
    }

    /// Takes effect only if nothing was noticed since the last witness began.
    pub(super) fn trust(&self, epoch: Epoch) {
        let mut decision = self.decision();
        decision.runs_decided = decision.runs_at_witness;
        self.acknowledged.forget(&std::mem::take(&mut decision.missing));
        if decision.withdrawn == decision.withdrawn_at_witness {
            decision.trusted = Some(epoch);
            self.trusted.store(Some(Arc::new(epoch.to_string())));
        }
    }

    /// The epoch that was trusted last, also while the shard is withdrawn.
    pub(super) fn trusted_last(&self) -> Option<Epoch> {
        self.decision().trusted
    }

    /// Begins a witness. Returns whether it must look up markers: after the server has changed, and while the
    /// shard is withdrawn.
    pub(super) fn begin_witness(&self) -> bool {
        let mut decision = self.decision();
        decision.withdrawn_at_witness = decision.withdrawn;
        decision.runs_at_witness = decision.runs;
        decision.runs != decision.runs_decided || self.trusted.load().is_none()
    }

    /// Ends a witness that missed these batches.
    pub(super) fn end_witness(&self, missing: &[AcknowledgedBatch]) {
        self.decision().missing = missing.iter().map(|batch| batch.batch_id).collect();
    }

    fn withdraw(&self, reason: &str) {
        let mut decision = self.decision();
        decision.withdrawn += 1;
        if self.trusted.swap(None).is_some() {
            let key = &self.keys.events;
            tracing::warn!(
                key,
                reason,
                "the stream may have gone back in time; nothing is admitted until that is clear"
            );
        }
    }

    /// Whether the shard stands at least where it stood when this process last had an answer.
    async fn stands_where_it_stood(&self, mut connection: MultiplexedConnection) -> Result<bool, String> {
        let acknowledged = self.acknowledged.last();
        if acknowledged == EntryId::default() {
            return Ok(true);
        }
        let position = match position_command(&self.keys).query_async::<Value>(&mut connection).await {
            Ok(answer) => parse_position(answer).map(|(_, last)| last).map_err(|error| error.reason())?,
            Err(error) => return Err(describe(&error)),
        };
        Ok(position >= acknowledged)
    }

    /// Whether the marker of a batch is missing that cannot have expired.
    async fn lacks_markers(&self, mut connection: MultiplexedConnection) -> Result<bool, String> {
        let young = self.acknowledged.within(MARKER_SURELY_KEPT);
        for chunk in young.chunks(CHUNK_MARKERS) {
            let command = marker::markers_command(&self.keys, chunk);
            let answer = command.query_async(&mut connection).await.map_err(|error| describe(&error))?;
            let missing = marker::missing_markers(answer, chunk).map_err(|error| error.reason())?;
            if !missing.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn decision(&self) -> MutexGuard<'_, Decision> {
        self.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn position_command(keys: &ShardKeys) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(scripts::POSITION).arg(3).arg(&keys.events).arg(&keys.epoch).arg(&keys.shard_hash);
    command
}

/// The epoch, and the higher one of the last id and the clock.
pub(super) fn parse_position(answer: Value) -> Result<(Option<Epoch>, EntryId), StreamError> {
    let [epoch, last, clock_ms] = reply::tuple(answer)?;
    let clock = EntryId { ms: reply::unsigned(clock_ms)?, seq: 0 };
    // A fence is not a UUID.
    Ok((Uuid::try_parse(&reply::text(epoch)?).ok(), reply::entry_id(last)?.max(clock)))
}

/// The identity of the server's data and process. `None` when it does not say.
async fn run_of(connection: MultiplexedConnection) -> Option<String> {
    let sections = ["server", "replication"].map(|section| {
        let mut connection = connection.clone();
        async move {
            let mut command = redis::cmd("INFO");
            command.arg(section).query_async::<Value>(&mut connection).await.ok().map(reply::text)?.ok()
        }
    });
    let info = join_all(sections).await.into_iter().collect::<Option<String>>()?;
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    };
    Some(format!("{} {}", field("run_id")?, field("master_replid")?))
}
