//! `/v1/admin/projects/{name}/limits`: lists, sets and removes limits of customers.

use std::borrow::Cow;

use hyper::{Method, StatusCode};
use millrace_event::event::SUBJECT_BYTES_MAX;
use millrace_event::limit::{Amount, Period};
use millrace_store::{AdminKey, LimitFilter, LimitPlace};
use serde_json::json;
use strum::VariantArray;

use super::fields::{FieldError, invalid};
use super::{ask, log, pages, project_of, read};
use crate::answer::{self, Answer};
use crate::body::Upload;
use crate::documents::LimitDocument;
use crate::error::Problem;
use crate::parameters::{ParameterError, values};
use crate::problem_code::ProblemCode;
use crate::request::Request;

const FIELDS: &[&str] = &["meter", "period", "subject", "limit"];
const PERIODS: &str = "hour, day or month";
const AMOUNT: &str =
    "a whole number, or a text such as \"12.50\" with at most 15 digits before and 9 after the decimal point";

const NO_LIMIT: Problem = Problem::new(
    ProblemCode::NotFound,
    "there is no such limit; GET /v1/admin/projects/{name}/limits lists those of a project",
);

/// `GET` lists the limits of a project, `PUT` sets one, and `DELETE` removes the one that the query names.
///
/// # Errors
/// 400 for a parameter, 404 when there is no such project, meter or limit, 422 for a wrong field, 503 when
/// the store cannot be reached, and those of reading a body.
pub async fn limits(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    match request.head.method {
        Method::PUT => set(request, upload, key).await,
        Method::DELETE => remove(request, key).await,
        _ => list(request).await,
    }
}

async fn list(request: Request<'_>) -> Result<Answer, Problem> {
    let query = request.head.uri.query().unwrap_or_default();
    let names = ["limit", "after", "meter", "subject"];
    let [limit, after, meter, subject] = values(query, names, "limit, after, meter and subject, each once")?;
    let limit = pages::size(limit.as_deref())?;
    let project = project_of(request).await?;
    let filter = LimitFilter {
        project: project.name,
        slug: meter.map(|slug| storable("meter", "the slug of a meter", slug)).transpose()?,
        subject: subject
            .map(|subject| storable("subject", "the subject of a customer", subject))
            .transpose()?,
        after: after.map(|place| place_of(&place)).transpose()?,
        // One more says whether there is another page.
        at_most: limit + 1,
    };
    let mut found = ask(request.service, request.service.store.limits(&filter)).await?;
    let next = pages::cut(&mut found, limit).map(|last| {
        let subject = last.subject.as_deref().unwrap_or_default();
        format!("{}/{}/{subject}", last.slug, last.period)
    });
    let limits: Vec<_> = found.iter().map(LimitDocument::of).collect();
    let limits = serde_json::value::to_raw_value(&limits).expect("limits have string keys");
    Ok(answer::json(StatusCode::OK, &Limits { limits, next_after: next }))
}

#[derive(serde::Serialize)]
struct Limits {
    limits: Box<serde_json::value::RawValue>,
    next_after: Option<String>,
}

async fn set(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    let mut fields = read(request, upload, FIELDS).await?;
    let slug = fields.required_text("meter", "the slug of a meter")?;
    let names: Vec<&str> = Period::VARIANTS.iter().map(<&'static str>::from).collect();
    let missing = |field, expected| FieldError::Missing { field, expected };
    let period = fields.choice::<Period>("period", &names)?.ok_or_else(|| missing("period", PERIODS))?;
    let subject = fields.text("subject")?;
    let limit = fields.decimal("limit", AMOUNT)?.ok_or_else(|| missing("limit", AMOUNT))?;
    let limit = Amount::parse(&limit).map_err(|_| invalid("limit", AMOUNT))?;
    let project = project_of(request).await?;
    let set = request.service.store.set_limit(&project.name, &slug, period, subject.as_deref(), limit);
    let set = ask(request.service, set).await?;
    log(key, "set a limit", &format!("{limit} of {slug} per {period} in {}", project.name));
    Ok(answer::json(StatusCode::OK, &LimitDocument::of(&set)))
}

async fn remove(request: Request<'_>, key: &AdminKey) -> Result<Answer, Problem> {
    let query = request.head.uri.query().unwrap_or_default();
    let names = ["meter", "period", "subject"];
    let [meter, period, subject] = values(query, names, "meter, period and subject, each once")?;
    let invalid = |name, expected| ParameterError::Invalid { name, expected };
    let slug = meter.filter(|slug| !slug.is_empty()).ok_or(invalid("meter", "the slug of a meter"))?;
    let slug = storable("meter", "the slug of a meter", slug)?;
    let period = period.and_then(|period| period.parse::<Period>().ok()).ok_or(invalid("period", PERIODS))?;
    let expected = "the subject of a customer, of at most 200 bytes; without it, the limit of every other customer is removed";
    let subject = subject.map(|subject| storable("subject", expected, subject)).transpose()?;
    if subject.as_ref().is_some_and(|subject| subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX) {
        return Err(invalid("subject", expected).into());
    }
    let project = project_of(request).await?;
    let removed = request.service.store.delete_limit(&project.name, &slug, period, subject.as_deref());
    if !ask(request.service, removed).await? {
        return Err(NO_LIMIT);
    }
    log(key, "removed a limit", &format!("{slug} per {period} in {}", project.name));
    let removed = json!({ "deleted": { "meter": slug, "period": <&str>::from(period), "subject": subject } });
    Ok(answer::json(StatusCode::OK, &removed))
}

/// The place that `next_after` named.
fn place_of(text: &str) -> Result<LimitPlace, ParameterError> {
    let place = || {
        let (slug, rest) = text.split_once('/')?;
        let (period, subject) = rest.split_once('/')?;
        let (slug, subject) = (slug.to_owned(), subject.to_owned());
        Some(LimitPlace { slug, subject, period: period.parse().ok()? })
    };
    let expected = "next_after of the page before";
    let invalid = ParameterError::Invalid { name: "after", expected };
    place().filter(|_| !text.contains('\0')).ok_or(invalid)
}

/// PostgreSQL takes no text with U+0000.
fn storable(
    name: &'static str,
    expected: &'static str,
    text: Cow<'_, str>,
) -> Result<String, ParameterError> {
    if text.contains('\0') {
        return Err(ParameterError::Invalid { name, expected });
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_limit_is_read_as_it_is_written_and_a_subject_may_have_slashes() {
        let place = place_of("tokens/month/acme/eu").unwrap();
        let LimitPlace { slug, subject, period } = place;
        assert_eq!((slug.as_str(), subject.as_str(), period), ("tokens", "acme/eu", Period::Month));
        assert_eq!(place_of("tokens/day/").unwrap().subject, "");
        for text in ["", "tokens", "tokens/year/a", "tokens/day", "tokens/day/\0"] {
            assert!(place_of(text).is_err(), "{text:?}");
        }
    }
}
