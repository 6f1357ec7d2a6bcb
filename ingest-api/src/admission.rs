//! Step 5 of the path of a batch: the stream admits it, in one round trip.

use std::time::{Duration, Instant};

use millrace_event::entry::NewBatch;
use millrace_event::limit::{Amount, events_over};
use millrace_failpoint::{self as failpoint, Point};
use millrace_stream::{Admission, Decision, StreamError};

use crate::api_key::ApiKey;
use crate::error::Problem;
use crate::metrics;
use crate::problem_code::ProblemCode;
use crate::service::Service;
use crate::verdict::Verdict;

/// Asks the stream to admit a batch. After `Ok` the batch is in the stream exactly once, even if an earlier
/// request added it. `digest` is that of a batch with an idempotency key. `awaited` says whether the client
/// waits for the outcome.
///
/// # Errors
/// `idempotency_conflict`, a 429, or a 503. After `stream_unavailable` the batch may be in the stream.
pub async fn admit(
    service: &Service,
    key: &ApiKey,
    batch: &NewBatch,
    digest: Option<[u8; 16]>,
    awaited: bool,
) -> Result<(), Problem> {
    let health = service.shard_health(batch.project);
    if !health.is_durable_enough() {
        let message =
            "the stream has not confirmed that its writes are durable; nothing is accepted until it has";
        return Err(Problem::new(ProblemCode::StreamUnavailable, message));
    }
    let admission = Admission { batch, plan: key.plan(), digest, awaited };
    failpoint::reach(Point::BeforeAdmission);
    let mut asked_at = Instant::now();
    let mut answer = service.stream.admit(&admission).await;
    let mut first_answer_lost = false;
    if let Err(StreamError::Unknown(_)) = answer {
        // The batch may be in the stream. If so, the second call finds its batch id and changes nothing.
        first_answer_lost = true;
        asked_at = Instant::now();
        answer = service.stream.admit(&admission).await;
    }
    metrics::admission(Verdict::from(&answer), asked_at.elapsed());
    let decision = answer.map_err(|error| service.stream_problem(batch.project, &error))?;
    let is_refused = matches!(
        decision,
        Decision::RateLimited { .. }
            | Decision::QuotaExceeded { .. }
            | Decision::LimitExceeded { .. }
            | Decision::BacklogFull { .. }
    );
    if first_answer_lost && is_refused {
        // The first call may still wait in a connection that was given up, and pass later. The client must
        // not learn that the batch was refused.
        let message = "the batch may have been accepted or not; send the same batch again";
        return Err(Problem::new(ProblemCode::StreamUnavailable, message));
    }
    let is_own_repeat =
        first_answer_lost && digest.is_none() && matches!(decision, Decision::Repeated { .. });
    if is_own_repeat || matches!(decision, Decision::Admitted { .. }) {
        metrics::batch_admitted(batch.count, batch.rows_bytes());
        failpoint::reach(Point::AfterAdmission);
    }
    apply(service, key, batch, decision, asked_at)
}

/// Turns a decision into the result of the request, and records it for the next requests of the project.
fn apply(
    service: &Service,
    key: &ApiKey,
    batch: &NewBatch,
    decision: Decision,
    asked_at: Instant,
) -> Result<(), Problem> {
    match decision {
        Decision::Admitted { limit_state, .. } | Decision::Repeated { limit_state, .. } => {
            key.project.observe(limit_state);
            Ok(())
        }
        Decision::Conflict { limit_state } => {
            key.project.observe(limit_state);
            Err(Problem::idempotency_conflict())
        }
        Decision::BacklogFull { limit_state } => {
            key.project.observe(limit_state);
            Err(Problem::backlog_full())
        }
        Decision::RateLimited { wait_us, limit_state } => {
            key.project.observe(limit_state);
            // The stream's wait began after the call, so counting it from the call refuses nothing that could
            // pass.
            key.project.block_until(asked_at + Duration::from_micros(wait_us));
            Err(Problem::rate_limited(wait_us))
        }
        Decision::QuotaExceeded { limit_state } => {
            key.project.observe(limit_state);
            Err(Problem::quota_exceeded(limit_state.quota_reset_s()))
        }
        Decision::LimitExceeded { limit_state, used } => {
            key.project.observe(limit_state);
            let over = events_over(&used, &batch.charges);
            Err(Problem::limit_exceeded(over, reset_s(batch, &used, limit_state.now_us)))
        }
        Decision::EpochChanged => {
            Err(service.stream_problem(key.account.project, &StreamError::EpochChanged))
        }
    }
}

/// Seconds until every limit that does not allow the batch starts again.
fn reset_s(batch: &NewBatch, used: &[Amount], now_us: u64) -> u64 {
    let over = batch.charges.iter().zip(used);
    let over = over.filter(|(limited, used)| used.plus(limited.charge.amount()) > limited.limit);
    let end_us = over.map(|(limited, _)| limited.charge.counter.period.bounds_us(now_us).1).max();
    end_us.unwrap_or(now_us).saturating_sub(now_us).div_ceil(1_000_000)
}
