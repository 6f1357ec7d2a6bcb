//! The call of admit.lua, and its answer.

use std::sync::Arc;

use redis::{Cmd, Value};

use super::keys::ShardKeys;
use super::packed_batches::PackedBatches;
use super::scripts::Script;
use super::{limit_arguments, reply};
use crate::{Decision, EntryId, StreamError};
use millrace_event::entry::{NewBatch, PackedEntry, VERSION};
use millrace_event::plan::ProjectId;

/// One batch to admit, in the terms of the script.
pub(super) struct AdmitRequest {
    /// The epoch that the caller trusts.
    pub(super) epoch: Arc<String>,
    pub(super) batch: NewBatch,
    pub(super) plan: AdmitPlan,
    /// The flags of the marker: `k` for a batch with a key, `w` when a client waits for the outcome, `-` for
    /// neither. The marker of a batch with a place in a group has none.
    pub(super) flags: &'static str,
    pub(super) digest: Option<[u8; 16]>,
}

/// What a project may send.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct AdmitPlan {
    pub(super) project: ProjectId,
    pub(super) interval_us: u64,
    /// Events a month; -1 is unlimited.
    pub(super) quota: i64,
    pub(super) tolerance_us: u64,
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
    let (mut batches, mut without_group) = (PackedBatches::new(), Vec::new());
    for request in requests {
        // At most 64.
        let marker = batches.push(request.batch.batch_id, request.plan, &[request.batch.count]);
        if marker.place == 0 {
            without_group.push(*request);
        }
    }
    let (plans, markers) = (batches.owners(), batches.markers());
    let charges = requests.iter().map(|request| request.batch.charges.len()).sum::<usize>();
    let mut command = script.call(3 + plans.len() + markers.len() + charges);
    command.arg(&keys.events).arg(&keys.epoch).arg(&keys.shard_hash);
    for plan in plans {
        command.arg(keys.project(plan.project));
    }
    for string in markers {
        command.arg(keys.markers(*string));
    }
    let epoch = requests.first().map_or("", |request| request.epoch.as_str());
    let charged = requests.iter().map(|request| (request.batch.project, &request.batch.charges[..]));
    limit_arguments::add_charge_keys(&mut command, keys, epoch, charged.clone());
    command.arg(epoch).arg(backlog_events_max);
    command.arg(VERSION).arg(entry.table()).arg(&entry.data[..]);
    command.arg(plans.len()).arg(markers.len()).arg(batches.bytes());
    for AdmitPlan { project, interval_us, quota, tolerance_us } in plans {
        command.arg(project.0).arg(interval_us).arg(quota).arg(tolerance_us);
    }
    for AdmitRequest { flags, digest, .. } in without_group {
        command.arg(format!("{flags} {}", digest.map_or_else(|| "-".to_owned(), hex)));
    }
    if let Some(field) = entry.charges_field() {
        limit_arguments::add_charges(&mut command, &field, charged.map(|(_, charges)| charges));
    }
    command
}

fn hex(digest: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(digest))
}

/// The answer to one request.
#[derive(Clone, Debug)]
pub(super) struct AdmitAnswer {
    pub(super) decision: Decision,
    /// The entry of a batch that is in the stream. When an earlier call admitted it, the sequence number is
    /// 0.
    pub(super) entry: Option<EntryId>,
}

impl AdmitAnswer {
    pub(super) const EPOCH_CHANGED: Self = Self { decision: Decision::EpochChanged, entry: None };
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
    if let [Ok(changed @ AdmitAnswer { decision: Decision::EpochChanged, .. })] = &answers[..] {
        return Ok(vec![Ok(changed.clone()); requests]);
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
        return Ok(AdmitAnswer::EPOCH_CHANGED);
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
        b"LIMIT_EXCEEDED" => {
            let used = limit_arguments::used(&reply::text(next())?)?;
            Decision::LimitExceeded { limit_state, used }
        }
        _ => return Err(StreamError::Refused("admit.lua answered with an unknown word".to_owned())),
    };
    Ok(AdmitAnswer { decision, entry })
}

#[cfg(test)]
mod tests {
    use millrace_event::BatchGroup;
    use millrace_event::limit::{Amount, Charge, Counter, LimitedCharge, Period};
    use millrace_event::meter::MeterId;
    use uuid::Uuid;

    use super::*;
    use crate::redis::scripts::Scripts;

    fn request(batch_id: Uuid) -> AdmitRequest {
        let project = ProjectId(1);
        AdmitRequest {
            epoch: Arc::new("epoch".to_owned()),
            batch: NewBatch::new(batch_id, project, 1, b"rows".to_vec()),
            plan: AdmitPlan { project, interval_us: 2, quota: -1, tolerance_us: 3 },
            flags: "-",
            digest: None,
        }
    }

    /// The arguments after the hash of the script.
    fn arguments(requests: &[&AdmitRequest]) -> Vec<Vec<u8>> {
        let entry = PackedEntry::pack(requests.iter().map(|request| &request.batch));
        let command = admit_command(&Scripts::new().admit, &ShardKeys::new(0), 100, requests, &entry);
        let arguments = command.args_iter().map(|argument| match argument {
            redis::Arg::Simple(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        });
        arguments.skip(2).collect()
    }

    #[test]
    fn batches_of_a_group_share_a_key_and_those_of_a_project_and_plan_its_arguments() {
        let group = BatchGroup::first(1_795_219_200_000_000, 7);
        let (first, second) = (request(group.batch_id()), request(group.next().unwrap().batch_id()));
        let mut third = request(Uuid::from_u128(3));
        third.plan.quota = 9;
        (third.flags, third.digest) = ("k", Some([0xab; 16]));
        let entry = PackedEntry::pack([&first.batch, &second.batch, &third.batch]);
        let (table, rows) = (entry.table(), &entry.data[..]);
        let shared = format!("{{s0}}:batch:{}:0", group.id);
        let own = format!("{{s0}}:batch:{}", Uuid::from_u128(3));
        let digest = format!("k {}", "ab".repeat(16));
        let batches = [[0, 1, 0, 1, 1, 0, 0, 0, 1], [0, 1, 0, 1, 2, 0, 0, 0, 1], [0, 2, 0, 2, 0, 0, 0, 0, 1]];
        let project = "{s0}:project:1";
        let keys = ["7", "{s0}:events", "{s0}:epoch", "{s0}:shard", project, project, &shared, &own];
        let mut expected: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        expected.extend([&b"epoch"[..], b"100", b"2", &table, rows, b"2", b"2", batches.as_flattened()]);
        expected.extend([&b"1"[..], b"2", b"-1", b"3", b"1", b"2", b"9", b"3", digest.as_bytes()]);
        assert_eq!(arguments(&[&first, &second, &third]), expected);
        assert!(entry.charges_field().is_none());
    }

    #[test]
    fn charges_follow_what_a_call_without_them_has() {
        let (first, mut second) = (request(Uuid::from_u128(1)), request(Uuid::from_u128(2)));
        let plain = arguments(&[&first, &second]);
        let counter = Counter { meter: MeterId(5), period: Period::Day, subject: "acme".to_owned() };
        let charge = Charge { counter, events: vec![(0, Amount::of_parts(3, 7))] };
        second.batch.charges = vec![LimitedCharge { charge, limit: Amount::of_parts(9, 0) }];
        let charged = arguments(&[&first, &second]);
        let keys_end = 7;
        assert_eq!(charged[0], b"7");
        assert_eq!(charged[1..keys_end], plain[1..keys_end]);
        assert_eq!(charged[keys_end], b"{s0}:limit:epoch:1:5:day:acme");
        let rest = keys_end + 1 + plain.len() - keys_end;
        assert_eq!(charged[keys_end + 1..rest], plain[keys_end..]);
        let tail: Vec<_> = charged[rest + 1..].iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
        assert_eq!(tail, ["2", "d", "3", "7", "9", "0"]);
    }
}
