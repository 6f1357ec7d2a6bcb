//! `GET /v1/limits`: the plan of the project, and how much of it is left now.

use hyper::StatusCode;
use serde::Serialize;

use crate::answer::{self, Answer};
use crate::api_key::ApiKey;
use crate::error::Problem;
use crate::request::Request;

#[derive(Serialize)]
struct LimitsReport<'a> {
    project: &'a str,
    plan: &'a str,
    requests: Requests,
    events: Events,
    batch: Batch,
}

#[derive(Serialize)]
struct Requests {
    per_minute: u32,
    burst: u32,
    left: u64,
    reset_s: u64,
}

#[derive(Serialize)]
struct Events {
    per_month: Option<u64>,
    used: u64,
    left: Option<u64>,
    reset_s: u64,
}

#[derive(Serialize)]
struct Batch {
    events_max: u64,
    body_bytes_max: usize,
    sdk_body_bytes_max: usize,
    body_decoded_bytes_max: usize,
}

/// Asks the stream for the limits of the project at this moment.
///
/// # Errors
/// 503 when the stream cannot be reached.
pub async fn get(request: Request<'_>, key: &ApiKey) -> Result<Answer, Problem> {
    let service = request.service;
    let limit_state = service.stream.limit_state(key.account.project).await;
    let limit_state = limit_state.map_err(|error| service.stream_problem(key.account.project, &error))?;
    key.project.observe(limit_state);
    let plan = key.plan();
    let report = LimitsReport {
        project: &key.account.project_name,
        plan: &plan.name,
        requests: Requests {
            per_minute: plan.requests_per_minute,
            burst: plan.burst,
            left: limit_state.requests_left(plan),
            reset_s: limit_state.rate_reset_s(),
        },
        events: Events {
            per_month: plan.events_per_month,
            used: limit_state.used,
            left: limit_state.events_left(plan),
            reset_s: limit_state.quota_reset_s(),
        },
        batch: Batch {
            events_max: plan.batch_events_max(),
            body_bytes_max: service.limits.body_bytes_max,
            sdk_body_bytes_max: service.limits.sdk_body_bytes_max,
            body_decoded_bytes_max: service.limits.body_decoded_bytes_max,
        },
    };
    Ok(answer::json(StatusCode::OK, &report))
}
