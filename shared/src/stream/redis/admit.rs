//! Letting batches in, and what is remembered of them.

use std::sync::Arc;

use redis::{Cmd, Value};

use super::connection::Script;
use super::keys::ShardKeys;
use super::{RedisStream, error, reply};
use crate::entry::Packed;
use crate::mutant::{self, Mutant};
use crate::plan::{ProjectId, Refusal, Standing};
use crate::stream::{Admission, BatchId, BatchState, Outcome, StreamError, Verdict};

const ADMIT: &str = concat!("#!lua", include_str!("clock.lua"), include_str!("admit.lua"));
const STANDING: &str =
    concat!("#!lua flags=no-writes", include_str!("clock.lua"), include_str!("standing.lua"));

/// Lua's numbers are doubles. Longer tolerances (142 years) and larger quotas than this are cut, so that every
/// sum in the script stays an exact integer; no plan can tell the difference.
const EXACT_MAX: u64 = 1 << 52;

/// Fields and values of an entry.
const ENTRY_WORDS: usize = 12;

/// The script that admits.
pub(super) fn script() -> Script {
    Script::new(&mutant::text("admit.lua", ADMIT))
}

/// The script that tells a standing.
pub(super) fn standing_script() -> Script {
    Script::new(STANDING)
}

/// One batch on its way to the script.
pub(super) struct Request {
    project_key: String,
    marker_key: String,
    epoch: Arc<String>,
    packed: Packed,
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
) -> Result<Vec<Result<Verdict, StreamError>>, StreamError> {
    let answers = reply::array(answer)?;
    let verdicts: Vec<_> = answers.into_iter().map(verdict).collect();
    if let [Ok(Verdict::EpochChanged)] = verdicts[..] {
        return Ok(vec![Ok(Verdict::EpochChanged); requests]);
    }
    if verdicts.len() != requests {
        let refused = format!("admission answered {} of {requests} batches", verdicts.len());
        return Err(StreamError::Refused(refused));
    }
    Ok(verdicts)
}

impl RedisStream {
    /// See [`crate::stream::Stream::admit`].
    pub(super) async fn admit_batch(&self, admission: &Admission<'_>) -> Result<Verdict, StreamError> {
        let Admission { packed, plan, digest, awaited } = *admission;
        let shard = packed.project.shard(self.shard_count);
        let keys = self.keys(shard)?;
        let Some(epoch) = self.trusted(shard) else {
            return Ok(Verdict::EpochChanged);
        };
        let mut quota = plan.events_per_month.map_or(-1, |quota| quota.min(EXACT_MAX).cast_signed());
        let mut tolerance_us = plan.tolerance_us().min(EXACT_MAX);
        if mutant::is(Mutant::LimitsCheckedBefore) {
            let standing = self.standing_of(packed.project).await?;
            match standing.charge(plan, packed.count.into()) {
                Err(Refusal::Rate { wait_us }) => return Ok(Verdict::RateLimited { wait_us, standing }),
                Err(Refusal::Quota) => return Ok(Verdict::QuotaExceeded { standing }),
                Ok(_) => (quota, tolerance_us) = (-1, EXACT_MAX),
            }
        }
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

    /// See [`crate::stream::Stream::standing`].
    pub(super) async fn standing_of(&self, project: ProjectId) -> Result<Standing, StreamError> {
        let keys = self.keys(project.shard(self.shard_count))?;
        let mut command = self.standing_script.call(2);
        command.arg(&keys.shard_hash).arg(keys.project(project));
        let answer = self.connections.eval(&self.standing_script, &command).await?;
        let [now_us, tat_us, used] = reply::tuple(answer)?;
        standing(now_us, tat_us, used)
    }

    /// See [`crate::stream::Stream::batch_state`].
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

fn standing(now_us: Value, tat_us: Value, used: Value) -> Result<Standing, StreamError> {
    Ok(Standing {
        now_us: reply::unsigned(now_us)?,
        tat_us: reply::unsigned(tat_us)?,
        used: reply::unsigned(used)?,
    })
}

/// The answer of admit.lua.
fn verdict(answer: Value) -> Result<Verdict, StreamError> {
    let mut answer = reply::array(answer)?.into_iter();
    let mut next = || answer.next().unwrap_or_default();
    let word = reply::bytes(next())?;
    if word == "EPOCH_CHANGED" {
        return Ok(Verdict::EpochChanged);
    }
    let standing = standing(next(), next(), next())?;
    match &word[..] {
        b"FAILED" => Err(StreamError::Refused(reply::text(next())?)),
        b"ADMITTED" => Ok(Verdict::Admitted { received_ms: reply::unsigned(next())?, standing }),
        b"REPEATED" => Ok(Verdict::Repeated { received_ms: reply::unsigned(next())?, standing }),
        b"CONFLICT" => Ok(Verdict::Conflict { standing }),
        b"BACKLOG_FULL" => Ok(Verdict::BacklogFull { standing }),
        b"RATE_LIMITED" => Ok(Verdict::RateLimited { wait_us: reply::unsigned(next())?, standing }),
        b"QUOTA_EXCEEDED" => Ok(Verdict::QuotaExceeded { standing }),
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
