//! Removes committed entries from the stream, and counts the attempts at suspects.

use redis::Cmd;

use super::core::Core;
use super::keys::{GROUP, ShardKeys};
use super::packed_batches::PackedBatches;
use super::scripts::Script;
use super::shard_witness::TrustedEpoch;
use super::{limit_arguments, reply};
use crate::metrics::counted;
use crate::{EntryId, Outcome, SettledBatch, Settlement, StreamError};

/// Batches settled by one call of the script, so that other clients of the server get a turn in between.
const CHUNK_BATCHES: usize = 256;

pub(super) async fn settle(core: &Core, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError> {
    let mut settled = 0;
    for chunk in Settlement::calls(settlements, CHUNK_BATCHES) {
        settled += settle_chunk(core, shard, chunk).await?;
    }
    Ok(settled)
}

async fn settle_chunk(core: &Core, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError> {
    let keys = core.keys(shard)?;
    let known = core.witnesses.shard(shard).and_then(|known| Some((known, known.trusted()?)));
    let (known, epoch) = known.ok_or_else(|| counted(StreamError::EpochChanged))?;
    let script = &core.scripts.settle;
    let command = settle_command(script, keys, &epoch, settlements);
    let epoch = TrustedEpoch { known, epoch: &epoch };
    match reply::integer(core.link(shard).connections.eval_under(epoch, script, &command).await?)? {
        -1 => Err(counted(StreamError::EpochChanged)),
        settled => Ok(settled.unsigned_abs()),
    }
}

/// The call that settles these entries.
fn settle_command(script: &Script, keys: &ShardKeys, epoch: &str, settlements: &[Settlement]) -> Cmd {
    let mut batches = PackedBatches::new();
    for SettledBatch { batch_id, project, count, outcome } in
        settlements.iter().flat_map(|settlement| &settlement.batches)
    {
        let Outcome { stored, duplicate, dead, conflict } = *outcome;
        batches.push(*batch_id, *project, &[*count, stored, duplicate, dead, conflict]);
    }
    let (projects, markers) = (batches.owners(), batches.markers());
    let refunds = settlements.iter().map(|settlement| settlement.refunds.len()).sum::<usize>();
    let mut command = script.call(4 + projects.len() + markers.len() + refunds);
    command.arg(&keys.events).arg(&keys.epoch).arg(&keys.shard_hash).arg(&keys.attempts);
    for project in projects {
        command.arg(keys.project(*project));
    }
    for string in markers {
        command.arg(keys.markers(*string));
    }
    limit_arguments::add_refund_keys(&mut command, keys, epoch, settlements);
    command.arg(epoch).arg(GROUP).arg(projects.len()).arg(markers.len()).arg(settlements.len());
    command.arg(batches.bytes());
    for Settlement { id, bytes, batches, .. } in settlements {
        command.arg(id.to_string()).arg(bytes).arg(batches.len());
    }
    limit_arguments::add_refunds(&mut command, settlements);
    command
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
