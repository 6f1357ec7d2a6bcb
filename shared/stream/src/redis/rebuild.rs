//! New counters and a new epoch for a shard whose counters are not trusted.

use super::core::Core;
use super::keys::{self, GROUP, MarkerString};
use super::marker::MarkerPlace;
use super::numbered::Numbered;
use super::{reply, scripts};
use crate::{EntryId, Epoch, PendingBatch, ProjectCounters, StreamError};

pub(super) async fn fence(core: &Core, shard: u16, epoch: Epoch) -> Result<(), StreamError> {
    let mut command = redis::cmd("EVAL");
    command.arg(scripts::FENCE).arg(1).arg(&core.keys(shard)?.epoch).arg(keys::fence(epoch));
    core.link(shard).ask(&command).await.map(drop)
}

pub(super) async fn rebuild(
    core: &Core,
    shard: u16,
    epoch: Epoch,
    counters: &[ProjectCounters],
    expected: &[PendingBatch],
    floor: EntryId,
) -> Result<bool, StreamError> {
    let shard_keys = core.keys(shard)?;
    let named: Vec<&PendingBatch> = expected.iter().filter(|batch| !batch.batch_id.is_nil()).collect();
    let (strings, markers) = markers_of(&named);
    let mut command = redis::cmd("EVAL");
    command.arg(scripts::REBUILD).arg(4 + counters.len() + strings.items().len());
    command.arg(&shard_keys.events).arg(&shard_keys.epoch);
    command.arg(&shard_keys.shard_hash).arg(&shard_keys.attempts);
    for project in counters {
        command.arg(shard_keys.project(project.project));
    }
    for string in strings.items() {
        command.arg(shard_keys.markers(*string));
    }
    command.arg(keys::fence(epoch)).arg(epoch.to_string()).arg(GROUP);
    let entries = expected.chunk_by(|one, next| one.id == next.id).count();
    command.arg(counters.len()).arg(entries).arg(&first_and_last_id(expected));
    command.arg(named.iter().map(|batch| u64::from(batch.count)).sum::<u64>());
    command.arg(named.iter().map(|batch| u64::from(batch.bytes)).sum::<u64>());
    let clock_ms = if floor == EntryId::default() { 0 } else { floor.ms.saturating_add(1) };
    command.arg(clock_ms);
    for project in counters {
        command.arg(project.month).arg(project.used).arg(project.accepted).arg(project.pending);
    }
    command.arg(markers);
    Ok(reply::integer(core.link(shard).ask(&command).await?)? == 1)
}

/// The strings of these batches, and the argument that lists their markers.
fn markers_of(batches: &[&PendingBatch]) -> (Numbered<MarkerString>, Vec<u8>) {
    let (mut strings, mut markers) = (Numbered::default(), Vec::new());
    for batch in batches {
        let MarkerPlace { string, place } = MarkerPlace::of(batch.batch_id);
        markers.extend_from_slice(&strings.number(string).to_be_bytes());
        markers.push(place);
        markers.extend_from_slice(&batch.project.0.to_be_bytes());
        markers.extend_from_slice(&batch.count.to_be_bytes());
        markers.extend_from_slice(&batch.id.ms.to_be_bytes());
    }
    (strings, markers)
}

/// The ids that rebuild.lua compares; both are empty when there is no batch.
fn first_and_last_id(pending: &[PendingBatch]) -> [String; 2] {
    let text = |id: Option<EntryId>| id.map_or_else(String::new, |id| id.to_string());
    [text(pending.first().map(|batch| batch.id)), text(pending.last().map(|batch| batch.id))]
}
