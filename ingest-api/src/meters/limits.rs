//! `GET /v1/meters/{slug}/limits`: how much a customer has left.

use hyper::StatusCode;
use millrace_event::limit::{Amount, Counter, Period};
use serde::Serialize;
use serde_json::value::RawValue;

use super::figures::{NOT_FOUND, meters, moment};
use super::native::by_slug;
use crate::answer::{self, Answer};
use crate::api_key::ApiKey;
use crate::documents::amount;
use crate::error::Problem;
use crate::parameters::{ParameterError, shown, values};
use crate::request::Request;

#[derive(Serialize)]
struct LimitsReport<'a> {
    meter: &'a str,
    subject: &'a str,
    /// One for each period that has a limit.
    limits: Vec<LimitReport>,
}

#[derive(Serialize)]
struct LimitReport {
    period: &'static str,
    limit: Box<RawValue>,
    used: Box<RawValue>,
    remaining: Box<RawValue>,
    start: String,
    end: String,
}

/// The limits of a customer, and how much of them is left at this moment.
///
/// # Errors
/// 400 without a subject, 404 when the project has no such meter, 503 when the store or the stream cannot be
/// reached.
pub async fn limits(request: Request<'_>, key: &ApiKey) -> Result<Answer, Problem> {
    let [subject] = values(request.head.uri.query().unwrap_or_default(), ["subject"], "subject, once")?;
    let expected = "the subject of a customer";
    let subject = subject.filter(|subject| !subject.is_empty());
    let subject = subject.ok_or(ParameterError::Invalid { name: "subject", expected })?;
    let (service, project) = (request.service, key.account.project);
    let infos = meters(service, project).await?;
    let info = by_slug(&infos, request.id).ok_or(NOT_FOUND)?;
    let meter = info.meter.id;
    let set = service.accounts.limits(project);
    let limits = set.map_or_else(Vec::new, |set| set.of_customer(meter, &subject));
    let counter = |period: &Period| Counter { meter, period: *period, subject: subject.to_string() };
    let counters: Vec<_> = limits.iter().map(|(period, _)| counter(period)).collect();
    let (now_us, used) = match counters.is_empty() {
        true => (0, Vec::new()),
        false => {
            let used = service.stream.limits_used(project, &counters).await;
            used.map_err(|error| service.stream_problem(project, &error))?
        }
    };
    let report = |((period, limit), used): (&(Period, Amount), Amount)| {
        let (start, end) = period.bounds_us(now_us);
        LimitReport {
            period: period.into(),
            limit: amount(*limit),
            used: amount(used),
            remaining: amount(limit.minus(used)),
            start: shown(moment(start.cast_signed())),
            end: shown(moment(end.cast_signed())),
        }
    };
    let limits = limits.iter().zip(used).map(report).collect();
    let slug = &info.meter.definition.slug;
    Ok(answer::json(StatusCode::OK, &LimitsReport { meter: slug, subject: &subject, limits }))
}
