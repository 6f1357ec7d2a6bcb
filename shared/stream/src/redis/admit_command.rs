//! The call of admit.lua, and its answer.

use std::sync::Arc;

use redis::{Cmd, Value};

use super::keys::ShardKeys;
use super::reply;
use super::scripts::Script;
use crate::{Decision, EntryId, StreamError};
use millrace_event::entry::{NewBatch, PackedEntry, VERSION};

/// One batch to admit, in the terms of the script.
pub(super) struct AdmitRequest {
    pub(super) project_key: String,
    pub(super) marker_key: String,
    /// The epoch that the caller trusts.
    pub(super) epoch: Arc<String>,
    pub(super) batch: NewBatch,
    pub(super) interval_us: u64,
    pub(super) tolerance_us: u64,
    /// Events a month; -1 is unlimited.
    pub(super) quota: i64,
    /// The flags of the marker: `k` for a batch with a key, `w` when a client waits for the outcome, `-` for
    /// neither.
    pub(super) flags: &'static str,
    pub(super) digest: Option<[u8; 16]>,
}

impl AdmitRequest {
    /// Whether both can be sent in one call, which has one trusted epoch.
    pub(super) fn fits_with(&self, other: &Self) -> bool {
        self.epoch == other.epoch
    }
}

/// The call that admits these requests, of one shard and one epoch, in their order. `entry` has their
/// batches.
pub(super) fn admit_command(
    script: &Script,
    keys: &ShardKeys,
    backlog_events_max: u64,
    requests: &[&AdmitRequest],
    entry: &PackedEntry,
) -> Cmd {
    let mut command = script.call(3 + 2 * requests.len());
    command.arg(&keys.events).arg(&keys.epoch).arg(&keys.shard_hash);
    for request in requests {
        command.arg(&request.project_key).arg(&request.marker_key);
    }
    let epoch = requests.first().map_or("", |request| request.epoch.as_str());
    command.arg(epoch).arg(backlog_events_max);
    command.arg(VERSION).arg(entry.table()).arg(&entry.data[..]);
    for AdmitRequest { batch, interval_us, tolerance_us, quota, flags, digest, .. } in requests {
        command.arg(batch.count).arg(interval_us).arg(tolerance_us).arg(batch.project.0).arg(quota);
        command.arg(flags).arg(digest.map_or_else(|| "-".to_owned(), hex));
    }
    command
}

fn hex(digest: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(digest))
}

/// The answer to one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdmitAnswer {
    pub(super) decision: Decision,
    /// The entry of a batch that is in the stream. When an earlier call admitted it, the sequence number is
    /// 0.
    pub(super) entry: Option<EntryId>,
}

/// The answer to each request, in their order.
///
/// # Errors
/// [`StreamError::Refused`] when the answer is not one of admit.lua to this many requests.
pub(super) fn parse_answers(
    answer: Value,
    requests: usize,
) -> Result<Vec<Result<AdmitAnswer, StreamError>>, StreamError> {
    let answers: Vec<_> = reply::array(answer)?.into_iter().map(parse_answer).collect();
    if let [Ok(changed @ AdmitAnswer { decision: Decision::EpochChanged, .. })] = answers[..] {
        return Ok(vec![Ok(changed); requests]);
    }
    if answers.len() != requests {
        let refused = format!("admit.lua answered for {} of {requests} batches", answers.len());
        return Err(StreamError::Refused(refused));
    }
    Ok(answers)
}

fn parse_answer(answer: Value) -> Result<AdmitAnswer, StreamError> {
    let mut answer = reply::array(answer)?.into_iter();
    let mut next = || answer.next().unwrap_or_default();
    let word = reply::bytes(next())?;
    if word == "EPOCH_CHANGED" {
        return Ok(AdmitAnswer { decision: Decision::EpochChanged, entry: None });
    }
    let limit_state = reply::limit_state(next(), next(), next())?;
    let mut entry = None;
    let decision = match &word[..] {
        b"FAILED" => return Err(StreamError::Refused(reply::text(next())?)),
        b"ADMITTED" => {
            let id = reply::entry_id(next())?;
            entry = Some(id);
            Decision::Admitted { received_ms: id.ms, limit_state }
        }
        b"REPEATED" => {
            let received_ms = reply::unsigned(next())?;
            entry = Some(EntryId { ms: received_ms, seq: 0 });
            Decision::Repeated { received_ms, limit_state }
        }
        b"CONFLICT" => Decision::Conflict { limit_state },
        b"BACKLOG_FULL" => Decision::BacklogFull { limit_state },
        b"RATE_LIMITED" => Decision::RateLimited { wait_us: reply::unsigned(next())?, limit_state },
        b"QUOTA_EXCEEDED" => Decision::QuotaExceeded { limit_state },
        _ => return Err(StreamError::Refused("admit.lua answered with an unknown word".to_owned())),
    };
    Ok(AdmitAnswer { decision, entry })
}
