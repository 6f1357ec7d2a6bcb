//! What routes of one kind have in common: who calls, which refusals are noted and for whom, and the state of
//! the caller's limits in the answer.

use hyper::Method;
use millrace_store::AdminKey;

use crate::answer::Answer;
use crate::api_key::ApiKey;
use crate::body::Upload;
use crate::error::Problem;
use crate::ratelimit::Fields;
use crate::request::{Refusal, Request};
use crate::sdk::{self, Protocol};
use crate::service::Service;
use crate::{admin, ingest, metrics, signature};

/// Refuses a request that has no route, or a doubtful head. The status page shows it only if it is a POST,
/// which was probably meant to send events.
pub fn refuse_misdirected(service: &Service, method: &Method, problem: &Problem) -> Answer {
    if method == Method::POST {
        note_refused(service, None, problem);
        return problem.answer();
    }
    metrics::request_refused(problem.code);
    problem.answer()
}

fn note_refused(service: &Service, key: Option<&ApiKey>, problem: &Problem) {
    metrics::request_refused(problem.code);
    service.status.note_request(key.map(|key| &key.account.project_name), problem);
}

/// Takes a batch from the caller whose key is in the headers.
pub async fn events(request: Request<'_>, upload: Upload) -> Answer {
    match ingest::events_caller(request) {
        Err(refusal) => refuse_caller(request.service, &refusal),
        Ok(key) => {
            let answer = ingest::post_events(request, upload, &key).await;
            batch_answer(request.service, &key, answer, Problem::answer)
        }
    }
}

/// Takes a batch of an SDK from the caller whose key is in the headers or in the body.
pub async fn sdk(request: Request<'_>, upload: Upload, protocol: &'static Protocol) -> Answer {
    let service = request.service;
    match sdk::caller(request, upload, protocol).await {
        Err(Refusal { problem, key }) => {
            note_refused_caller(service, key.as_deref(), &problem);
            (protocol.refusal)(&problem)
        }
        Ok((key, body)) => {
            let answer = sdk::post(request, body, &key, protocol).await;
            batch_answer(service, &key, answer, protocol.refusal)
        }
    }
}

/// As [`with_limits`], for a request that sends events: its refusal is noted for the owner of the project.
fn batch_answer(
    service: &Service,
    key: &ApiKey,
    answer: Result<Answer, Problem>,
    refusal: fn(&Problem) -> Answer,
) -> Answer {
    if let Err(problem) = &answer {
        service.rejections.note_request(key.account.project, problem);
    }
    with_limits(service, key, answer, refusal)
}

/// Refuses a request that has no caller. If its key is known, the owner of the project learns of it.
fn refuse_caller(service: &Service, Refusal { problem, key }: &Refusal) -> Answer {
    note_refused_caller(service, key.as_deref(), problem);
    problem.answer()
}

fn note_refused_caller(service: &Service, key: Option<&ApiKey>, problem: &Problem) {
    if let Some(key) = key {
        service.rejections.note_request(key.account.project, problem);
    }
    note_refused(service, key, problem);
}

/// Answers an SDK in a web page that asks for its settings.
pub fn bootstrap(request: Request<'_>, answer: Result<Answer, Refusal>) -> Answer {
    answer.unwrap_or_else(|refusal| refuse_caller(request.service, &refusal))
}

/// Answers a report to the caller whose key is in the headers.
pub async fn report<'a>(
    request: Request<'a>,
    get: impl AsyncFnOnce(Request<'a>, &ApiKey) -> Result<Answer, Problem>,
) -> Answer {
    let headers = &request.head.headers;
    match request.caller() {
        Err(refusal) => refuse_caller(request.service, &refusal),
        Ok(key) => {
            // The request has no body, so its signature covers none.
            let answer = match signature::verify_now(&key.account, headers, b"") {
                Ok(()) => get(request, &key).await,
                Err(error) => Err(error.into()),
            };
            with_limits(request.service, &key, answer, Problem::answer)
        }
    }
}

/// As [`report`], for a question that may be in a body. `get` checks the signature, which covers the body.
pub async fn ask<'a>(
    request: Request<'a>,
    upload: Upload,
    get: impl AsyncFnOnce(Request<'a>, Upload, &ApiKey) -> Result<Answer, Problem>,
) -> Answer {
    match request.caller() {
        Err(refusal) => refuse_caller(request.service, &refusal),
        Ok(key) => {
            let answer = get(request, upload, &key).await;
            with_limits(request.service, &key, answer, Problem::answer)
        }
    }
}

/// Answers a program that manages the installation.
pub async fn admin<'a>(
    request: Request<'a>,
    upload: Upload,
    manage: impl AsyncFnOnce(Request<'a>, Upload, &AdminKey) -> Result<Answer, Problem>,
) -> Answer {
    let answer = match admin::caller(request).await {
        Ok(key) => manage(request, upload, &key).await,
        Err(problem) => Err(problem),
    };
    answer.unwrap_or_else(|problem| {
        metrics::request_refused(problem.code);
        problem.answer()
    })
}

/// Answers for the status page. A refusal is not counted: the page is not part of the interface.
pub fn page(answer: Result<Answer, Problem>) -> Answer {
    answer.unwrap_or_else(|problem| problem.answer())
}

/// Adds the state of the caller's limits to its answer. A key for web pages learns nothing of its project.
/// Nor does a signed key, which may be stolen, before its signature was checked.
fn with_limits(
    service: &Service,
    key: &ApiKey,
    answer: Result<Answer, Problem>,
    refusal: fn(&Problem) -> Answer,
) -> Answer {
    let is_signed = match &answer {
        Ok(_) => true,
        Err(problem) => problem.code.follows_the_signature(),
    };
    let sees_limits = key.sees_limits() && (is_signed || key.account.signing_secrets.is_empty());
    let mut answer = answer.unwrap_or_else(|problem| {
        note_refused(service, Some(key), &problem);
        refusal(&if sees_limits { problem } else { problem.without_limits() })
    });
    if sees_limits {
        let fields = Fields::new(key.plan(), &key.project.limit_state());
        answer.headers_mut().insert("ratelimit-policy", fields.policy);
        answer.headers_mut().insert("ratelimit", fields.state);
    }
    answer
}
