//! The path of one batch, with the statuses that can end it at each step:
//!
//! 1. The headers name the format of the body (415), the API key (401) and the idempotency key (400).
//! 2. A project known to be over its rate is refused here (429), unless the batch may have been admitted
//!    before.
//! 3. The body is read (408, 413, 503) and decoded (400, 413). A signature is checked against the body as
//!    sent (401).
//! 4. The dialect turns it into rows (400, 413, 422).
//! 5. The stream admits the batch, in one round trip and in one entry with others (422, 429, 503).
//! 6. A client that asked for it waits for the outcome.
//!
//! A request dropped before step 5 leaves nothing half done, and step 5 is atomic. This module must never
//! wait for the store, unless the client asked to wait for the outcome.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use hyper::StatusCode;
use millrace_event::dialect::{self, BodyError, Dialect};
use millrace_event::entry::NewBatch;
use millrace_event::event::{Batch, Origin, Rejection, batch_id_of_key};
use millrace_event::json;
use millrace_event::limit::LimitSet;
use millrace_event::plan::Account;
use millrace_failpoint::{self as failpoint, Point};
use millrace_stream::{BatchId, Outcome};
use sha2::{Digest, Sha256};

use crate::admission::admit;
use crate::answer::{self, Answer};
use crate::api_key::ApiKey;
use crate::auth::CredentialsError;
use crate::body::Upload;
use crate::body_reader::RequestBody;
use crate::error::Problem;
use crate::headers::{self, HeaderError};
use crate::metrics;
use crate::rejections;
use crate::request::{Refusal, Request};
use crate::service::Service;
use crate::signature::{self, SignatureError, SignatureHeaders};
use crate::wait::{self, ClientWait};

/// The options of a batch, from the headers of its request.
pub struct IngestOptions<'a> {
    pub dialect: &'static Dialect,
    /// The member of an event whose text the answer needs for each dead letter.
    pub id_member: Option<&'static str>,
    signature: Option<SignatureHeaders<'a>>,
    idempotency_key: Option<&'a str>,
    client_address: Option<IpAddr>,
}

/// A batch that is ready for the stream.
struct Submission {
    batch: NewBatch,
    /// Only with an idempotency key.
    digest: Option<[u8; 16]>,
    rejected: Vec<Rejection>,
    /// Events that were accepted as dead letters.
    dead: Vec<Rejection>,
}

/// The data of the answer for a batch that is in the stream.
pub struct Receipt {
    batch_id: BatchId,
    pub count: u32,
    rejected: Vec<Rejection>,
    pub dead: Vec<Rejection>,
    /// The ids of the dead letters as they were sent, if [`IngestOptions::id_member`] asks for them.
    pub dead_ids: Vec<Option<String>>,
    /// As it was decoded.
    pub body: Bytes,
}

/// Finds the key of a post to `/v1/events`: in the headers, or in the query of a beacon.
///
/// # Errors
/// `unauthenticated`, `forbidden`, and `overloaded` before the accounts have been read.
pub fn events_caller(request: Request<'_>) -> Result<Arc<ApiKey>, Refusal> {
    request.beacon_caller()?.ok_or_else(|| CredentialsError::Missing.into())
}

/// `POST /v1/events`.
///
/// # Errors
/// Those of the steps above.
pub async fn post_events(request: Request<'_>, upload: Upload, key: &ApiKey) -> Result<Answer, Problem> {
    failpoint::reach(Point::AfterAuth);
    let (service, headers) = (request.service, &request.head.headers);
    let options = IngestOptions::read(headers::native_dialect(headers)?, request, key)?;
    let encoding = headers::content_encoding(headers)?;
    refuse_if_blocked(key, &options)?;
    let waiter = headers::preferred_wait(headers)
        .filter(|_| key.sees_limits())
        .and_then(|wait| Some((wait, Arc::clone(&service.waiters).try_acquire_owned().ok()?)));
    let body = service.bodies.read(upload, encoding, request.body_bytes_max, Some(&key.project)).await?;
    let receipt = accept(service, &options, body, key, waiter.is_some()).await?;
    let Some((at_most, _permit)) = waiter else { return Ok(receipt.answer(None)) };
    let began = Instant::now();
    let outcome = wait::for_outcome(service, key.account.project, receipt.batch_id, at_most).await;
    let mut answer = receipt.answer(outcome);
    answer.extensions_mut().insert(ClientWait(began.elapsed()));
    let applied = format!("wait={}", at_most.as_secs());
    let applied = applied.try_into().expect("letters and digits are valid");
    answer.headers_mut().insert("preference-applied", applied);
    Ok(answer)
}

impl<'a> IngestOptions<'a> {
    /// # Errors
    /// `invalid_header`, and `unauthenticated` without the signature that the key demands.
    pub fn read(dialect: &'static Dialect, request: Request<'a>, key: &ApiKey) -> Result<Self, Problem> {
        let headers = &request.head.headers;
        let idempotency_key = headers::idempotency_key(headers)?;
        let client_address = request.address_to_store(key);
        let options = Self { dialect, id_member: None, signature: None, idempotency_key, client_address };
        if key.account.signing_secrets.is_empty() {
            return Ok(options);
        }
        let signature = SignatureHeaders::read(headers)?;
        // The signature does not cover Idempotency-Key. With another one, a recorded request could be sent
        // again and counted twice.
        if idempotency_key.is_some_and(|key| key != signature.id) {
            let expected = "absent or equal to webhook-id on signed requests";
            return Err(HeaderError::Invalid { name: "idempotency-key", expected }.into());
        }
        Ok(Self { signature: Some(signature), idempotency_key: Some(signature.id), ..options })
    }

    fn verify(&self, key: &ApiKey, raw: &[u8]) -> Result<(), SignatureError> {
        let Some(signature) = self.signature else { return Ok(()) };
        signature.verify(&key.account.signing_secrets, raw, signature::now_s())
    }
}

/// Refuses a project that an earlier answer of the stream has blocked. A batch with an idempotency key
/// passes: it may have been admitted before, which only the stream knows, and it then gets its first answer
/// again.
///
/// # Errors
/// `rate_limited`.
pub fn refuse_if_blocked(key: &ApiKey, options: &IngestOptions<'_>) -> Result<(), Problem> {
    if options.idempotency_key.is_some() {
        return Ok(());
    }
    let Some(left) = key.project.blocked_for(Instant::now()) else { return Ok(()) };
    metrics::flood_refused();
    Err(Problem::rate_limited(u64::try_from(left.as_micros()).unwrap_or(u64::MAX)))
}

/// Parses a body, and has the stream admit the batch.
///
/// # Errors
/// Those of steps 3 to 5.
pub async fn accept(
    service: &Service,
    options: &IngestOptions<'_>,
    body: RequestBody,
    key: &ApiKey,
    awaited: bool,
) -> Result<Receipt, Problem> {
    let RequestBody { raw, decoded, reservation } = body;
    options.verify(key, &raw)?;
    drop(raw);
    let project = key.account.project;
    let batch_id = match options.idempotency_key {
        Some(key) => batch_id_of_key(project, key),
        None => service.batch_ids.next(project.shard(service.stream.shards())),
    };
    let Account { policy, key_hash, .. } = key.account;
    let origin = Origin {
        project,
        batch_id,
        policy,
        received_us: now_us(),
        key_hash: Some(key_hash),
        client_address: options.client_address,
    };
    // The plan's batch size limits what is read. The month's quota also limits what is charged: only valid
    // events.
    let events_max = key.plan().events_per_batch as usize;
    let (dialect, keyed) = (options.dialect, options.idempotency_key.is_some());
    let body_bytes = decoded.len();
    let limits = service.accounts.limits(project);
    let prepare = move || (prepare(dialect, &decoded, origin, events_max, keyed, limits.as_deref()), decoded);
    let (submission, decoded) = service.bodies.offload.run(body_bytes, prepare).await;
    note_invalid(service, key, dialect, &submission, &decoded).await;
    let submission = submission.map_err(|error| match error {
        BodyError::InvalidJson { .. } => {
            Problem::from(error).with_body(rejections::of_body(&decoded, &key_hash))
        }
        _ => error.into(),
    })?;
    let dead_ids = ids_of(options, &decoded, &submission.dead);
    let (found, max) = (u64::from(submission.batch.count), key.plan().batch_events_max());
    if found > max {
        let fits = |events| usize::try_from(events).unwrap_or(usize::MAX);
        return Err(BodyError::TooManyEvents { found: fits(found), max: fits(max) }.into());
    }
    failpoint::reach(Point::AfterValidation);
    let admitted = admit(service, key, &submission.batch, submission.digest, awaited).await;
    admitted.map_err(|problem| problem.in_body(&submission.rejected))?;
    drop(reservation);
    let Submission { batch, rejected, dead, .. } = submission;
    Ok(Receipt { batch_id, count: batch.count, rejected, dead, dead_ids, body: decoded })
}

/// The ids of these events in a body, as far as they can be found.
fn ids_of(options: &IngestOptions<'_>, body: &[u8], events: &[Rejection]) -> Vec<Option<String>> {
    let Some(member) = options.id_member.filter(|_| !events.is_empty()) else { return Vec::new() };
    let indexes: Vec<_> = events.iter().map(|event| event.index).collect();
    let id = |text: Option<&[u8]>| json::unescaped(json::root_member(text?, member, None)?);
    options.dialect.texts_of(body, &indexes).into_iter().map(id).collect()
}

/// Microseconds since 1970 by the clock of this machine.
fn now_us() -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Counts the invalid events of a body: those that were rejected, of which the last texts are kept as samples
/// for the owner, and those that are accepted as dead letters if the stream admits the batch. The worker
/// keeps samples of these.
async fn note_invalid(
    service: &Service,
    key: &ApiKey,
    dialect: &'static Dialect,
    submission: &Result<Submission, BodyError>,
    body: &Bytes,
) {
    let (rejected, dead) = match submission {
        Ok(Submission { rejected, dead, .. }) => (rejected.as_slice(), dead.as_slice()),
        Err(BodyError::NoValidEvent { rejected }) => (rejected.as_slice(), &[][..]),
        Err(_) => return,
    };
    if rejected.is_empty() && dead.is_empty() {
        return;
    }
    for alike in rejected.chunk_by(|one, next| one.code == next.code) {
        metrics::events_refused(alike[0].code, alike.len());
    }
    for alike in dead.chunk_by(|one, next| one.code == next.code) {
        metrics::calls_undeliverable(alike[0].code, alike.len());
    }
    let Account { project, project_name, key_hash, .. } = &key.account;
    service.status.note_events(project_name, rejected);
    service.status.note_events(project_name, dead);
    let wanted = service.rejections.count_events(*project, rejected);
    if wanted > 0 {
        let bytes = body.len();
        let last = rejected[rejected.len() - wanted..].to_vec();
        let (body, key_hash) = (body.clone(), *key_hash);
        let excerpts = move || rejections::of_events(dialect, &body, last, &key_hash);
        let samples = service.bodies.offload.run(bytes, excerpts).await;
        service.rejections.sample_events(*project, samples);
    }
}

fn prepare(
    dialect: &'static Dialect,
    body: &[u8],
    origin: Origin,
    events_max: usize,
    keyed: bool,
    limits: Option<&LimitSet>,
) -> Result<Submission, BodyError> {
    let Batch { rows, count, rejected, dead } = dialect::read(dialect, body, origin, events_max)?;
    let charges = limits.map_or_else(Vec::new, |limits| limits.charges(&rows));
    let batch = NewBatch::new(origin.batch_id, origin.project, count, rows).with_charges(charges);
    let digest = keyed.then(|| digest(dialect, body));
    Ok(Submission { batch, digest, rejected, dead })
}

/// The digest by which repeated batches are compared: of the decoded body and the dialect.
fn digest(dialect: &Dialect, body: &[u8]) -> [u8; 16] {
    let digest = Sha256::new().chain_update(dialect.name).chain_update([0]).chain_update(body).finalize();
    digest[..16].try_into().expect("SHA-256 has 32 bytes")
}

impl Receipt {
    /// 202, or 200 with the outcome. Only `rejected` needs a serializer: nothing else has characters to
    /// escape.
    fn answer(&self, outcome: Option<Outcome>) -> Answer {
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
        let status = if let Some(Outcome { stored, duplicate, dead, conflict }) = outcome {
            write!(body, r#","stored":{stored},"duplicate":{duplicate},"dead":{dead},"conflict":{conflict}"#)
                .expect(infallible);
            StatusCode::OK
        } else {
            StatusCode::ACCEPTED
        };
        body.push('}');
        answer::json_text(status, body)
    }
}
