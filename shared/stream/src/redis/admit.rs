//! Letting batches in, and what is remembered of them.

use std::sync::Arc;

use redis::{Cmd, Value};

use super::connection::Script;
use super::keys::ShardKeys;
use super::{RedisStream, error, reply};
use crate::{Admission, BatchId, BatchState, Decision, Outcome, StreamError};
use millrace_event::entry::PackedBatch;
use millrace_event::plan::{LimitState, ProjectId};

const ADMIT: &str = concat!("#!lua", include_str!("clock.lua"), include_str!("admit.lua"));
const STANDING: &str =
    concat!("#!lua flags=no-writes", include_str!("clock.lua"), include_str!("limit_state.lua"));

/// Lua's numbers are doubles. Longer tolerances (142 years) and larger quotas than this are cut, so that every
/// sum in the script stays an exact integer; no plan can tell the difference.
const EXACT_MAX: u64 = 1 << 52;

/// Fields and values of an entry.
const ENTRY_WORDS: usize = 12;

/// The script that admits.
pub(super) fn script() -> Script {
    Script::new(ADMIT)
}

/// The script that tells a limit_state.
pub(super) fn standing_script() -> Script {
    Script::new(STANDING)
}

/// One batch on its way to the script.
pub(super) struct Request {
    project_key: String,
    marker_key: String,
    epoch: Arc<String>,
    packed: PackedBatch,
    interval_us: u64,
    tolerance_us: u64,
    quota: i64,
    flags: &'static str,
    digest: Option<[u8; 16]>,
}

impl Request {
    /// What it adds to a call.
    pub(super) fn bytes(&self) -> usize {
        self.packed.data.len()
    }

    /// Whether it trusts the same epoch: only such requests can go in one call.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        self.epoch == other.epoch
    }
}

/// One call that admits these requests, of one shard and one epoch, in order.
pub(super) fn call(script: &Script, keys: &ShardKeys, backlog_events_max: u64, requests: &[&Request]) -> Cmd {
    let mut command = script.call(3 + 2 * requests.len());
    command.arg(&keys.events).arg(&keys.epoch).arg(&keys.shard_hash);
    for request in requests {
        command.arg(&request.project_key).arg(&request.marker_key);
    }
    let epoch = requests.first().map_or("", |request| request.epoch.as_str());
    command.arg(epoch).arg(backlog_events_max).arg(ENTRY_WORDS);
    for Request { packed, interval_us, tolerance_us, quota, flags, digest, .. } in requests {
        command.arg(packed.count).arg(packed.data.len()).arg(interval_us).arg(tolerance_us).arg(quota);
        command.arg(packed.project.0).arg(flags).arg(digest.map_or_else(|| "-".to_owned(), hex));
        for (name, value) in packed.fields() {
            command.arg(name).arg(&value[..]);
        }
    }
    command
}

/// What the script answered, for each of so many requests.
///
/// # Errors
/// [`StreamError::Refused`] when it answered something else.
pub(super) fn verdicts(
    answer: Value,
    requests: usize,
) -> Result<Vec<Result<Decision, StreamError>>, StreamError> {
    let answers = reply::array(answer)?;
    let verdicts: Vec<_> = answers.into_iter().map(verdict).collect();
    if let [Ok(Decision::EpochChanged)] = verdicts[..] {
        return Ok(vec![Ok(Decision::EpochChanged); requests]);
    }
    if verdicts.len() != requests {
        let refused = format!("admission answered {} of {requests} batches", verdicts.len());
        return Err(StreamError::Refused(refused));
    }
    Ok(verdicts)
}

impl RedisStream {
    /// See [`crate::Stream::admit`].
    pub(super) async fn admit_batch(&self, admission: &Admission<'_>) -> Result<Decision, StreamError> {
        let Admission { packed, plan, digest, awaited } = *admission;
        let shard = packed.project.shard(self.shard_count);
        let keys = self.keys(shard)?;
        let Some(epoch) = self.trusted(shard) else {
            return Ok(Decision::EpochChanged);
        };
        let quota = plan.events_per_month.map_or(-1, |quota| quota.min(EXACT_MAX).cast_signed());
        let tolerance_us = plan.tolerance_us().min(EXACT_MAX);
        let flags = match (digest.is_some(), awaited) {
            (true, true) => "kw",
            (true, false) => "k",
            (false, true) => "w",
            (false, false) => "-",
        };
        let request = Request {
            project_key: keys.project(packed.project),
            marker_key: keys.marker(packed.batch_id),
            epoch,
            packed: packed.clone(),
            interval_us: plan.interval_us(),
            tolerance_us,
            quota,
            flags,
            digest,
        };
        self.groups.admit(shard, request).await.map_err(error::counted)
    }

    /// See [`crate::Stream::limit_state`].
    pub(super) async fn standing_of(&self, project: ProjectId) -> Result<LimitState, StreamError> {
        let keys = self.keys(project.shard(self.shard_count))?;
        let mut command = self.standing_script.call(2);
        command.arg(&keys.shard_hash).arg(keys.project(project));
        let answer = self.connections.eval(&self.standing_script, &command).await?;
        let [now_us, tat_us, used] = reply::tuple(answer)?;
        limit_state(now_us, tat_us, used)
    }

    /// See [`crate::Stream::batch_state`].
    pub(super) async fn state_of(
        &self,
        project: ProjectId,
        batch_id: BatchId,
    ) -> Result<BatchState, StreamError> {
        let keys = self.keys(project.shard(self.shard_count))?;
        let mut command = redis::cmd("GET");
        command.arg(keys.marker(batch_id));
        match self.connections.send(&command).await.map_err(error::counted)? {
            Value::Nil => Ok(BatchState::Unknown),
            marker => {
                let marker = reply::text(marker)?;
                state(&marker)
                    .ok_or_else(|| error::counted(StreamError::Refused("a marker is malformed".to_owned())))
            }
        }
    }
}

fn hex(digest: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(digest))
}

fn limit_state(now_us: Value, tat_us: Value, used: Value) -> Result<LimitState, StreamError> {
    Ok(LimitState {
        now_us: reply::unsigned(now_us)?,
        tat_us: reply::unsigned(tat_us)?,
        used: reply::unsigned(used)?,
    })
}

/// The answer of admit.lua.
fn verdict(answer: Value) -> Result<Decision, StreamError> {
    let mut answer = reply::array(answer)?.into_iter();
    let mut next = || answer.next().unwrap_or_default();
    let word = reply::bytes(next())?;
    if word == "EPOCH_CHANGED" {
        return Ok(Decision::EpochChanged);
    }
    let limit_state = limit_state(next(), next(), next())?;
    match &word[..] {
        b"FAILED" => Err(StreamError::Refused(reply::text(next())?)),
        b"ADMITTED" => Ok(Decision::Admitted { received_ms: reply::unsigned(next())?, limit_state }),
        b"REPEATED" => Ok(Decision::Repeated { received_ms: reply::unsigned(next())?, limit_state }),
        b"CONFLICT" => Ok(Decision::Conflict { limit_state }),
        b"BACKLOG_FULL" => Ok(Decision::BacklogFull { limit_state }),
        b"RATE_LIMITED" => Ok(Decision::RateLimited { wait_us: reply::unsigned(next())?, limit_state }),
        b"QUOTA_EXCEEDED" => Ok(Decision::QuotaExceeded { limit_state }),
        _ => Err(StreamError::Refused("admission gave an unknown verdict".to_owned())),
    }
}

/// A marker: `p flags project count received_ms digest`, or the same with `s` and `stored duplicate dead` behind.
fn state(marker: &str) -> Option<BatchState> {
    let words: Vec<&str> = marker.split(' ').collect();
    let project = ProjectId(words.get(2)?.parse().ok()?);
    let number = |at: usize| words.get(at)?.parse::<u32>().ok();
    match words[0] {
        "p" => Some(BatchState::Pending { project, count: number(3)? }),
        "s" => {
            let outcome = Outcome { stored: number(6)?, duplicate: number(7)?, dead: number(8)? };
            Some(BatchState::Settled { project, outcome })
        }
        _ => None,
    }
}
