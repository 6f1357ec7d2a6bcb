//! `GET /v1/limits`: the plan, and how much of it is left now.

use hyper::StatusCode;
use serde::Serialize;

use crate::accounts::Known;
use crate::answer::{self, Answer};
use crate::error::Problem;
use crate::ingest::stream_problem;
use crate::service::Service;

#[derive(Serialize)]
struct Report<'a> {
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
    body_decoded_bytes_max: usize,
}

/// The project's limits, as the stream sees them at this moment.
///
/// # Errors
/// 503 when the stream cannot be asked.
pub async fn show(service: &Service, known: &Known) -> Result<Answer, Problem> {
    let limit_state = service.stream.limit_state(known.account.project).await;
    let limit_state = limit_state.map_err(|error| stream_problem(service, &error))?;
    known.project.saw(limit_state);
    let plan = known.plan();
    let report = Report {
        project: &known.account.project_name,
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
            body_decoded_bytes_max: service.limits.body_decoded_bytes_max,
        },
    };
    Ok(answer::json(StatusCode::OK, &report))
}
