//! The path of one batch, in order, and what may stop it at each step:
//!
//! 1. The head says what the body is (415), whose it is (401), and under which idempotency key it goes (400).
//! 2. A project known to be over its rate is refused here (429), unless the batch may be one that is known already.
//! 3. The body is read (408, 413, 503) and decoded (400, 413); a signature is checked against what was sent (401).
//! 4. The dialect makes rows of it (400, 413, 422), and they are packed into one entry.
//! 5. The stream admits the entry, in one round trip (422, 429, 503).
//! 6. A client that prefers so waits for the outcome.
//!
//! Up to the fifth step nothing has happened that a dropped request would leave half done, and the fifth is atomic.
//! This room must never wait for the store, except for a client that asked to wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics;
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use millrace_event::dialect::{self, BodyError, Dialect};
use millrace_event::entry::PackedBatch;
use millrace_event::event::{Origin, Rejection, batch_id_of_key};
use millrace_event::plan::Plan;
use millrace_failpoint::{self as failpoint, Point};
use millrace_stream::{Admission, BatchId, Decision, Outcome, StreamError};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::accounts::Known;
use crate::answer::{self, Answer};
use crate::auth;
use crate::body::Upload;
use crate::encoding::Encoding;
use crate::error::Problem;
use crate::headers::{self, HeaderError};
use crate::service::{Received, Service};
use crate::signature::{self, SignatureError, Signed};
use crate::wait::{self, Waited};

/// What the head of a post says, beside the key.
struct Terms<'a> {
    dialect: &'static Dialect,
    signed: Option<Signed<'a>>,
    idempotency_key: Option<&'a str>,
}

/// A batch on its way to the stream.
struct Prepared {
    packed: PackedBatch,
    digest: Option<[u8; 16]>,
    rejected: Vec<Rejection>,
}

/// A batch that is in the stream.
struct Accepted {
    batch_id: BatchId,
    count: u32,
    rejected: Vec<Rejection>,
}

/// `POST /v1/events`, for a caller whose key is known.
///
/// # Errors
/// Every [`Problem`] named above.
pub async fn native(
    service: &Service,
    head: &Parts,
    upload: Upload,
    known: &Arc<Known>,
) -> Result<Answer, Problem> {
    failpoint::reach(Point::AfterAuth);
    let headers = &head.headers;
    let terms = Terms::read(headers::native_dialect(headers)?, headers, known)?;
    let encoding = headers::content_encoding(headers)?;
    refuse_flood(known, &terms)?;
    let waiter = headers::preferred_wait(headers)
        .and_then(|wait| Some((wait, Arc::clone(&service.waiters).try_acquire_owned().ok()?)));
    let received = service.receive(upload, encoding).await?;
    let accepted = take(service, &terms, received, known, waiter.is_some()).await?;
    let Some((at_most, _permit)) = waiter else { return Ok(accepted.answer(None)) };
    let began = Instant::now();
    let outcome = wait::for_outcome(service, known.account.project, accepted.batch_id, at_most).await;
    let mut answer = accepted.answer(outcome);
    answer.extensions_mut().insert(Waited(began.elapsed()));
    let applied = format!("wait={}", at_most.as_secs());
    let applied = applied.try_into().expect("letters and digits are valid");
    answer.headers_mut().insert("preference-applied", applied);
    Ok(answer)
}

/// The key of a Segment post, and the body when it had to be read for it.
///
/// # Errors
/// Unknown keys, and what can go wrong with the body.
pub async fn segment_caller(
    service: &Service,
    headers: &HeaderMap,
    upload: Upload,
) -> Result<(Arc<Known>, SegmentBody), Problem> {
    let encoding = headers::content_encoding(headers)?;
    match auth::key_in_head(headers) {
        Err(auth::CredentialsError::Missing) => {
            let received = service.receive(upload, encoding).await?;
            let body = received.decoded.clone();
            let key = service.work(body.len(), move || auth::key_in_segment_body(&body)).await?;
            let known = service.accounts.open(&key, OffsetDateTime::now_utc())?;
            known.touch();
            Ok((known, SegmentBody::Here(received)))
        }
        _ => Ok((service.caller(headers)?, SegmentBody::ToCome(upload, encoding))),
    }
}

/// The body of a Segment post.
pub enum SegmentBody {
    /// Read already, because the key is in it.
    Here(Received),
    /// Not read.
    ToCome(Upload, Encoding),
}

/// A Segment route, for a caller whose key is known. Their SDKs take exactly 200 for success.
///
/// # Errors
/// Every [`Problem`] named above.
pub async fn segment(
    service: &Service,
    head: &Parts,
    body: SegmentBody,
    known: &Arc<Known>,
    dialect: &'static Dialect,
) -> Result<Answer, Problem> {
    failpoint::reach(Point::AfterAuth);
    let terms = Terms::read(dialect, &head.headers, known)?;
    refuse_flood(known, &terms)?;
    let received = match body {
        SegmentBody::Here(received) => received,
        SegmentBody::ToCome(upload, encoding) => service.receive(upload, encoding).await?,
    };
    take(service, &terms, received, known, false).await?;
    Ok(answer::json_text(StatusCode::OK, r#"{"success":true}"#))
}

impl<'a> Terms<'a> {
    fn read(dialect: &'static Dialect, headers: &'a HeaderMap, known: &Known) -> Result<Self, Problem> {
        let idempotency_key = headers::idempotency_key(headers)?;
        if known.account.signing_secrets.is_empty() {
            return Ok(Self { dialect, signed: None, idempotency_key });
        }
        let signed = Signed::from_headers(headers)?;
        // Idempotency-Key is not covered by the signature: whoever repeats a signed request under another one would
        // have it counted again.
        if idempotency_key.is_some_and(|key| key != signed.id) {
            let expected = "absent or equal to webhook-id on signed requests";
            return Err(HeaderError::Invalid { name: "idempotency-key", expected }.into());
        }
        Ok(Self { dialect, signed: Some(signed), idempotency_key: Some(signed.id) })
    }

    fn verify(&self, known: &Known, raw: &[u8]) -> Result<(), SignatureError> {
        let Some(signed) = self.signed else { return Ok(()) };
        signed.verify(&known.account.signing_secrets, raw, signature::now_s())
    }
}

/// Refuses on the word of an earlier answer. A batch with an idempotency key may have been admitted before, and then
/// gets its first answer however many requests there were since; only the stream knows.
fn refuse_flood(known: &Known, terms: &Terms<'_>) -> Result<(), Problem> {
    if terms.idempotency_key.is_some() {
        return Ok(());
    }
    let Some(left) = known.project.blocked_for(Instant::now()) else { return Ok(()) };
    metrics::flood_refused();
    Err(Problem::RateLimited { wait_us: u64::try_from(left.as_micros()).unwrap_or(u64::MAX).max(1) })
}

/// From a received body to the stream.
async fn take(
    service: &Service,
    terms: &Terms<'_>,
    received: Received,
    known: &Arc<Known>,
    awaited: bool,
) -> Result<Accepted, Problem> {
    let Received { raw, decoded, reserved } = received;
    terms.verify(known, &raw)?;
    drop(raw);
    let project = known.account.project;
    let batch_id = match terms.idempotency_key {
        Some(key) => batch_id_of_key(project, key),
        None => Uuid::now_v7(),
    };
    let origin = Origin { project, batch_id };
    // What is read is bounded by the batch; what is charged, by the month as well, and only valid events are charged.
    let events_max = known.plan().events_per_batch as usize;
    let (dialect, keyed) = (terms.dialect, terms.idempotency_key.is_some());
    let prepared =
        service.work(decoded.len(), move || prepare(dialect, &decoded, origin, events_max, keyed)).await;
    note_rejections(service, known, &prepared);
    let prepared = prepared?;
    let (found, max) = (u64::from(prepared.packed.count), known.plan().batch_events_max());
    if found > max {
        let fits = |events| usize::try_from(events).unwrap_or(usize::MAX);
        return Err(BodyError::TooManyEvents { found: fits(found), max: fits(max) }.into());
    }
    failpoint::reach(Point::AfterValidation);
    admit(service, known, &prepared, awaited).await?;
    drop(reserved);
    Ok(Accepted { batch_id, count: prepared.packed.count, rejected: prepared.rejected })
}

fn note_rejections(service: &Service, known: &Known, prepared: &Result<Prepared, BodyError>) {
    let rejected = match prepared {
        Ok(prepared) => prepared.rejected.as_slice(),
        Err(BodyError::NoValidEvent { rejected }) => rejected,
        Err(_) => &[],
    };
    for alike in rejected.chunk_by(|one, next| one.code == next.code) {
        metrics::events_refused(alike[0].code.into(), alike.len());
    }
    service.status.note_events(&known.account.project_name, rejected);
}

fn prepare(
    dialect: &'static Dialect,
    body: &[u8],
    origin: Origin,
    events_max: usize,
    keyed: bool,
) -> Result<Prepared, BodyError> {
    let batch = dialect::read(dialect, body, origin, events_max)?;
    let packed = PackedBatch::pack(origin.batch_id, origin.project, batch.count, &batch.rows);
    let digest = keyed.then(|| digest(dialect, body));
    Ok(Prepared { packed, digest, rejected: batch.rejected })
}

/// What a repeated batch is compared by: the decoded body, and how it is read.
fn digest(dialect: &Dialect, body: &[u8]) -> [u8; 16] {
    let digest = Sha256::new().chain_update(dialect.name).chain_update([0]).chain_update(body).finalize();
    digest[..16].try_into().expect("SHA-256 has 32 bytes")
}

/// Asks the stream. When it is over, the batch is in it exactly once, whichever request brought it.
async fn admit(service: &Service, known: &Known, prepared: &Prepared, awaited: bool) -> Result<(), Problem> {
    if !service.stream_health.is_durable_enough() {
        return Err(Problem::StreamUnavailable("the stream is not known to be durable; nothing is accepted"));
    }
    let plan: &Plan = known.plan();
    let admission = Admission { packed: &prepared.packed, plan, digest: prepared.digest, awaited };
    failpoint::reach(Point::BeforeAdmission);
    let mut asked_at = Instant::now();
    let mut answer = service.stream.admit(&admission).await;
    let mut first_answer_lost = false;
    if let Err(StreamError::Unknown(_)) = answer {
        // Whether it happened, nobody knows; the batch id makes the second call change nothing if it did.
        first_answer_lost = true;
        asked_at = Instant::now();
        answer = service.stream.admit(&admission).await;
    }
    metrics::admission(verdict_name(&answer), asked_at.elapsed());
    let verdict = answer.map_err(|error| stream_problem(service, &error))?;
    let is_refused = matches!(
        verdict,
        Decision::RateLimited { .. } | Decision::QuotaExceeded { .. } | Decision::BacklogFull { .. }
    );
    if first_answer_lost && is_refused {
        // The first call may wait in a connection that was given up, and pass where the second did not; nobody may be
        // told that the batch was not taken.
        return Err(Problem::StreamUnavailable(
            "whether the batch was taken is not known; send the same again",
        ));
    }
    let ours = prepared.digest.is_none() && first_answer_lost;
    if matches!(verdict, Decision::Admitted { .. }) || (ours && matches!(verdict, Decision::Repeated { .. }))
    {
        metrics::batch_admitted(prepared.packed.count, prepared.packed.data.len());
        failpoint::reach(Point::AfterAdmission);
    }
    judge(service, known, verdict, asked_at)
}

/// What a verdict means for the request, and for the next ones of its project.
fn judge(service: &Service, known: &Known, verdict: Decision, asked_at: Instant) -> Result<(), Problem> {
    match verdict {
        Decision::Admitted { limit_state, .. } | Decision::Repeated { limit_state, .. } => {
            known.project.saw(limit_state);
            Ok(())
        }
        Decision::Conflict { limit_state } => {
            known.project.saw(limit_state);
            Err(Problem::IdempotencyConflict)
        }
        Decision::BacklogFull { limit_state } => {
            known.project.saw(limit_state);
            Err(Problem::BacklogFull)
        }
        Decision::RateLimited { wait_us, limit_state } => {
            known.project.saw(limit_state);
            // The stream began to count its wait after we asked, so counting ours from there refuses nothing that
            // could pass.
            known.project.block_until(asked_at + Duration::from_micros(wait_us));
            Err(Problem::RateLimited { wait_us })
        }
        Decision::QuotaExceeded { limit_state } => {
            known.project.saw(limit_state);
            Err(Problem::QuotaExceeded { reset_s: limit_state.quota_reset_s() })
        }
        Decision::EpochChanged => {
            service.stream_health.mark_epoch_stale();
            Err(Problem::StreamUnavailable("the stream's counters are being rebuilt"))
        }
    }
}

/// What a failed call to the stream means for the request.
pub fn stream_problem(service: &Service, error: &StreamError) -> Problem {
    match error {
        StreamError::Full(_) => {
            tracing::debug!(%error, "a batch was not taken: {error}");
            Problem::BacklogFull
        }
        StreamError::EpochChanged => {
            service.stream_health.mark_epoch_stale();
            Problem::StreamUnavailable("the stream's counters are being rebuilt")
        }
        StreamError::Unavailable(_) | StreamError::Unknown(_) => {
            service.stream_health.mark_stale();
            Problem::StreamUnavailable("the stream cannot be reached; send the same batch again")
        }
        StreamError::Refused(_) => {
            tracing::error!(%error, "the stream refused a call: {error}");
            Problem::StreamUnavailable("the stream refused; the operator's log tells why")
        }
    }
}

fn verdict_name(answer: &Result<Decision, StreamError>) -> &'static str {
    match answer {
        Ok(Decision::Admitted { .. }) => "admitted",
        Ok(Decision::Repeated { .. }) => "repeated",
        Ok(Decision::Conflict { .. }) => "conflict",
        Ok(Decision::BacklogFull { .. }) => "backlog_full",
        Ok(Decision::RateLimited { .. }) => "rate_limited",
        Ok(Decision::QuotaExceeded { .. }) => "quota_exceeded",
        Ok(Decision::EpochChanged) | Err(StreamError::EpochChanged) => "epoch_changed",
        Err(StreamError::Full(_)) => "stream_full",
        Err(StreamError::Unavailable(_)) => "unavailable",
        Err(StreamError::Unknown(_)) => "unknown",
        Err(StreamError::Refused(_)) => "refused",
    }
}

impl Accepted {
    /// 202, or 200 with the outcome. Only `rejected` needs a serializer; the rest has nothing to escape.
    fn answer(&self, outcome: Option<Outcome>) -> Answer {
        use std::fmt::Write;
        let rejected = if self.rejected.is_empty() {
            "[]".to_owned()
        } else {
            serde_json::to_string(&self.rejected).expect("numbers and strings")
        };
        let mut body = String::with_capacity(rejected.len() + 160);
        let infallible = "writing to a String does not fail";
        write!(
            body,
            r#"{{"batch_id":"{}","accepted":{},"rejected":{rejected}"#,
            self.batch_id.as_hyphenated(),
            self.count
        )
        .expect(infallible);
        let status = if let Some(Outcome { stored, duplicate, dead }) = outcome {
            write!(body, r#","stored":{stored},"duplicate":{duplicate},"dead":{dead}"#).expect(infallible);
            StatusCode::OK
        } else {
            StatusCode::ACCEPTED
        };
        body.push('}');
        answer::json_text(status, body)
    }
}
