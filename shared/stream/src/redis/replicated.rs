//! Admission that is answered when replicas have the batches: the script and WAIT, in one round trip.
//!
//! WAIT covers everything that the server had written when the script ended, so it also covers a batch that
//! an earlier call wrote and this one found. A refusal wrote nothing and needs no replica.
//!
//! This module must never answer that a batch is in the stream while fewer replicas than demanded have it.

use std::time::Duration;

use redis::{Cmd, Value};

use super::admit_command::{AdmitAnswer, parse_answers};
use super::connection::OwnConnection;
use super::error::describe;
use super::reply;
use super::scripts::Script;
use super::shard_witness::TrustedEpoch;
use super::slot::RESPONSE_TIMEOUT;
use crate::{Decision, StreamError};

/// How long the server waits for its replicas. The answer must come before the connection is given up.
const WAIT_MAX: Duration = Duration::from_millis(1_000);
const _: () = assert!(WAIT_MAX.as_millis() * 2 <= RESPONSE_TIMEOUT.as_millis());

/// Sends one call of admit.lua for this many requests. Returns the decision on each, in their order.
///
/// # Errors
/// [`StreamError`], not counted.
pub(super) async fn admit(
    connection: &OwnConnection,
    epoch: TrustedEpoch<'_>,
    script: &Script,
    command: Cmd,
    requests: usize,
    replicas: u32,
) -> Result<Vec<Result<AdmitAnswer, StreamError>>, StreamError> {
    let mut both = redis::pipe();
    both.add_command(command).cmd("WAIT").arg(replicas).arg(WAIT_MAX.as_millis().to_string());
    let [decisions, confirmed] = connection.eval_and_block_under(epoch, script, &both).await?;
    let decisions = parse_answers(decisions, requests)?;
    Ok(match lack(confirmed, replicas) {
        None => decisions,
        Some(reason) => decisions.into_iter().map(|decision| unconfirmed(decision, &reason)).collect(),
    })
}

/// Why the batches are not safe, from the answer to WAIT. `None` when they are.
fn lack(confirmed: Value, replicas: u32) -> Option<String> {
    let confirmed = match confirmed.extract_error() {
        Ok(confirmed) => reply::unsigned(confirmed),
        Err(error) => return Some(format!("no replica has confirmed the batch: {}", describe(&error))),
    };
    match confirmed {
        Ok(confirmed) if confirmed >= replicas.into() => None,
        Ok(confirmed) => Some(format!("only {confirmed} of {replicas} replicas have confirmed the batch")),
        Err(error) => Some(format!("no replica has confirmed the batch: {}", error.reason())),
    }
}

/// The decision without a promise that replicas have the batch.
fn unconfirmed(answer: Result<AdmitAnswer, StreamError>, reason: &str) -> Result<AdmitAnswer, StreamError> {
    match answer {
        Ok(AdmitAnswer { decision: Decision::Admitted { .. } | Decision::Repeated { .. }, .. }) => {
            Err(StreamError::Unknown(reason.to_owned()))
        }
        refusal => refusal,
    }
}

#[cfg(test)]
mod tests {
    use millrace_event::plan::LimitState;

    use super::*;

    fn error(line: &str) -> Value {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("an error reply")
    }

    fn answer_with(decision: Decision) -> AdmitAnswer {
        AdmitAnswer { decision, entry: None }
    }

    #[test]
    fn batches_are_safe_when_at_least_as_many_replicas_as_demanded_have_them() {
        for confirmed in [2, 3, 16] {
            assert_eq!(lack(Value::Int(confirmed), 2), None);
        }
        for (answer, expected) in [
            (Value::Int(0), "only 0 of 2 replicas"),
            (Value::Int(1), "only 1 of 2 replicas"),
            (Value::Nil, "only 0 of 2 replicas"),
            (error("UNBLOCKED instance state changed"), "UNBLOCKED"),
            (error("NOPERM User app has no permissions to run the 'wait' command"), "'wait' command"),
            (Value::Boolean(true), "not a string"),
        ] {
            let reason = lack(answer, 2).expect("a reason");
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn only_decisions_that_promise_the_batch_become_unknown() {
        let limit_state = LimitState::default();
        for decision in [
            Decision::Admitted { received_ms: 1, limit_state },
            Decision::Repeated { received_ms: 1, limit_state },
        ] {
            assert!(
                matches!(unconfirmed(Ok(answer_with(decision)), "why"), Err(StreamError::Unknown(why)) if why == "why")
            );
        }
        for decision in [
            Decision::Conflict { limit_state },
            Decision::BacklogFull { limit_state },
            Decision::RateLimited { wait_us: 1, limit_state },
            Decision::QuotaExceeded { limit_state },
            Decision::LimitExceeded { limit_state, used: Vec::new() },
            Decision::EpochChanged,
        ] {
            let answer = unconfirmed(Ok(answer_with(decision.clone())), "why").expect("as it was");
            assert_eq!(answer.decision, decision);
        }
        let failed = unconfirmed(Err(StreamError::Refused("other".to_owned())), "why");
        assert!(matches!(failed, Err(StreamError::Refused(_))), "{failed:?}");
    }
}
