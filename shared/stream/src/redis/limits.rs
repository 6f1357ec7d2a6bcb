//! The counters of limits of customers: reading and restoring them.

use std::sync::Arc;

use redis::Value;

use super::core::Core;
use super::limit_arguments::{add_amount, used};
use super::{admin, keys, reply, scripts};
use crate::metrics::counted;
use crate::{Epoch, PendingBatch, StreamError};
use millrace_event::entry::batches_of_table;
use millrace_event::limit::{Amount, Charge, Counter, CounterState, decode_charges};
use millrace_event::plan::ProjectId;

/// Entries listed by one call.
const PAGE_ENTRIES: usize = 500;
/// Counters restored by one call.
const CHUNK_COUNTERS: usize = 1_000;

/// What is used of these counters now.
pub(super) async fn limits_used(
    core: &Core,
    project: ProjectId,
    counters: &[Counter],
) -> Result<(u64, Vec<Amount>), StreamError> {
    let shard = project.shard(core.shard_count);
    let keys = core.keys(shard)?;
    let epoch = match core.trusted_epoch(shard) {
        Some(epoch) => epoch,
        // An operator's command trusts none: it only reads.
        None => {
            let held = admin::epoch(core, shard).await?;
            Arc::new(held.ok_or_else(|| counted(StreamError::EpochChanged))?.to_string())
        }
    };
    let script = &core.scripts.limits_used;
    let mut command = script.call(2 + counters.len());
    command.arg(&keys.shard_hash).arg(&keys.epoch);
    for counter in counters {
        command.arg(keys.limit(&epoch, project, counter));
    }
    command.arg(epoch.as_str());
    for counter in counters {
        command.arg(counter.period.letter().to_string());
    }
    let [now_us, texts] = reply::tuple(core.link(shard).connections.eval(script, &command).await?)?;
    let amounts = used(&reply::text(texts)?)?;
    match reply::integer(now_us)? {
        -1 => Err(counted(StreamError::EpochChanged)),
        now_us => Ok((now_us.unsigned_abs(), amounts)),
    }
}

pub(super) async fn pending_charges(
    core: &Core,
    shard: u16,
) -> Result<Vec<(PendingBatch, Vec<Charge>)>, StreamError> {
    let keys = core.keys(shard)?;
    let (mut charged, mut from) = (Vec::new(), "-".to_owned());
    loop {
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::PENDING_CHARGES).arg(1).arg(&keys.events).arg(&from).arg(PAGE_ENTRIES);
        let [last, entries] = reply::tuple(core.link(shard).ask(&command).await?)?;
        for entry in reply::array(entries)? {
            charged.extend(charged_batches(entry)?);
        }
        match last {
            Value::Nil => return Ok(charged),
            last => from = format!("({}", reply::entry_id(last)?),
        }
    }
}

/// The admitted batches of an entry that were charged, from a row of pending_charges.lua. An entry that is
/// damaged was charged nothing that could be given back.
fn charged_batches(row: Value) -> Result<Vec<(PendingBatch, Vec<Charge>)>, StreamError> {
    let [id, admitted, table, charges, size] = reply::tuple(row)?;
    let (id, size) = (reply::entry_id(id)?, reply::small(size)?);
    let batches = batches_of_table(&reply::bytes(table)?, Some(&reply::bytes(admitted)?)).unwrap_or_default();
    let charges = decode_charges(&reply::bytes(charges)?, batches.len()).unwrap_or_default();
    let of_admitted = batches.iter().zip(charges).filter(|(batch, _)| batch.is_admitted);
    let pending = PendingBatch::of_entry(id, &batches, size).into_iter();
    let charged = pending.zip(of_admitted).map(|(pending, (_, charges))| (pending, charges));
    Ok(charged.filter(|(_, charges)| !charges.is_empty()).collect())
}

pub(super) async fn restore(
    core: &Core,
    shard: u16,
    epoch: Epoch,
    counters: &[(ProjectId, CounterState)],
) -> Result<bool, StreamError> {
    let shard_keys = core.keys(shard)?;
    let (fence, epoch) = (keys::fence(epoch), epoch.to_string());
    for chunk in counters.chunks(CHUNK_COUNTERS) {
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::RESTORE_LIMITS).arg(1 + chunk.len()).arg(&shard_keys.epoch);
        for (project, state) in chunk {
            command.arg(shard_keys.limit(&epoch, *project, &state.counter));
        }
        command.arg(&fence);
        for (_, state) in chunk {
            command.arg(state.window);
            add_amount(&mut command, state.used);
        }
        if reply::integer(core.link(shard).ask(&command).await?)? != 1 {
            return Ok(false);
        }
    }
    Ok(true)
}
