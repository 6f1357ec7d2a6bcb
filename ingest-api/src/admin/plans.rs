//! `GET /v1/admin/plans` and `PUT /v1/admin/plans/{name}`.

use hyper::StatusCode;
use millrace_event::plan::{EVENTS_PER_BATCH_MAX, EVENTS_PER_MONTH_MAX, Plan, REQUESTS_MAX};
use millrace_store::{AdminKey, PlanChange};
use serde_json::{Value, json};

use super::fields::{FieldError, Fields};
use super::{ask, decoded, log, read};
use crate::answer::{self, Answer};
use crate::body::Upload;
use crate::error::Problem;
use crate::parameters::values;
use crate::problem_code::ProblemCode;
use crate::request::Request;

const FIELDS: &[&str] = &["requests_per_minute", "burst", "events_per_month", "events_per_batch"];

/// Every plan.
///
/// # Errors
/// 400 for a parameter, 503 when the store cannot be reached.
pub async fn list(request: Request<'_>, _upload: Upload, _key: &AdminKey) -> Result<Answer, Problem> {
    let [] = values(request.head.uri.query().unwrap_or_default(), [], "none")?;
    let plans = ask(request.service, request.service.store.plans()).await?;
    let plans: Vec<_> = plans.iter().map(as_json).collect();
    Ok(answer::json(StatusCode::OK, &json!({ "plans": plans })))
}

/// Changes a plan, or creates it. Limits that the body does not have stay as they are.
///
/// # Errors
/// 422 for a wrong field, 503 when the store cannot be reached, and those of reading a body.
pub async fn set(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    let mut fields = read(request, upload, FIELDS).await?;
    fields.check_not_empty()?;
    let change = PlanChange {
        requests_per_minute: number(&mut fields, "requests_per_minute", REQUESTS_MAX)?,
        burst: number(&mut fields, "burst", REQUESTS_MAX)?,
        events_per_month: fields.nullable_number("events_per_month", EVENTS_PER_MONTH_MAX)?,
        events_per_batch: number(&mut fields, "events_per_batch", EVENTS_PER_BATCH_MAX)?,
    };
    let no_name = || Problem::new(ProblemCode::NotFound, "the name of the plan in the path is not UTF-8");
    let name = decoded(request.id).ok_or_else(no_name)?;
    if change.requests_per_minute.is_none() {
        let plans = ask(request.service, request.service.store.plans()).await?;
        let field = "requests_per_minute";
        let missing = FieldError::Missing { field, expected: "there for a new plan" };
        plans.iter().find(|plan| plan.name == name).ok_or(missing)?;
    }
    let updated = ask(request.service, request.service.store.set_plan(&name, &change)).await?;
    log(key, "set a plan", &name);
    let status = if updated.before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok(answer::json(status, &as_json(&updated.after)))
}

fn number(fields: &mut Fields, field: &'static str, max: u32) -> Result<Option<u32>, FieldError> {
    Ok(fields.number(field, max.into())?.and_then(|number| u32::try_from(number).ok()))
}

fn as_json(plan: &Plan) -> Value {
    json!({
        "plan": plan.name,
        "requests_per_minute": plan.requests_per_minute,
        "burst": plan.burst,
        "events_per_month": plan.events_per_month,
        "events_per_batch": plan.events_per_batch,
    })
}
