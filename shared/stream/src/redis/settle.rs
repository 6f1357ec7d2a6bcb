//! Removes committed entries from the stream, and counts the attempts at suspects.

use super::core::Core;
use super::keys::GROUP;
use super::reply;
use crate::metrics::counted;
use crate::{EntryId, Settlement, StreamError};

/// Entries settled by one call of the script, so that other clients of the server get a turn in between.
const CHUNK_ENTRIES: usize = 256;

pub(super) async fn settle(core: &Core, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError> {
    let mut settled = 0;
    for chunk in settlements.chunks(CHUNK_ENTRIES) {
        settled += settle_chunk(core, shard, chunk).await?;
    }
    Ok(settled)
}

async fn settle_chunk(core: &Core, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError> {
    let keys = core.keys(shard)?;
    let epoch = core.trusted_epoch(shard).ok_or_else(|| counted(StreamError::EpochChanged))?;
    let script = &core.scripts.settle;
    let mut command = script.call(4 + 2 * settlements.len());
    command.arg(&keys.events).arg(&keys.epoch).arg(&keys.shard_hash).arg(&keys.attempts);
    for settlement in settlements {
        command.arg(keys.marker(settlement.batch_id)).arg(keys.project(settlement.project));
    }
    command.arg(epoch.as_str()).arg(GROUP);
    for settlement in settlements {
        let outcome = settlement.outcome;
        command.arg(settlement.id.to_string()).arg(settlement.count).arg(settlement.bytes);
        command.arg(outcome.stored).arg(outcome.duplicate).arg(outcome.dead).arg(outcome.conflict);
    }
    match reply::integer(core.link(shard).connections.eval(script, &command).await?)? {
        -1 => Err(counted(StreamError::EpochChanged)),
        settled => Ok(settled.unsigned_abs()),
    }
}

pub(super) async fn note_attempt(core: &Core, shard: u16, id: EntryId) -> Result<u32, StreamError> {
    let script = &core.scripts.note_attempt;
    let mut command = script.call(1);
    command.arg(&core.keys(shard)?.attempts).arg(id.to_string());
    reply::small(core.link(shard).connections.eval(script, &command).await?)
}

pub(super) async fn forget_attempts(core: &Core, shard: u16, id: EntryId) -> Result<(), StreamError> {
    let mut command = redis::cmd("HDEL");
    command.arg(&core.keys(shard)?.attempts).arg(id.to_string());
    core.link(shard).connections.send(&command).await.map(drop).map_err(counted)
}
