//! `/v1/admin/projects/{name}/thresholds`: lists, sets, shows and deletes the thresholds of a project. The
//! secret that signs their notifications is answered once, when the first threshold of a project makes it.

use hyper::{Method, StatusCode};
use millrace_event::meter::Decimal;
use millrace_event::webhook::Endpoint;
use millrace_store::{AdminKey, ThresholdDefinition, ThresholdInfo, ThresholdPeriod, ThresholdRule};
use serde_json::json;
use strum::VariantArray;

use super::fields::{FieldError, Fields, invalid};
use super::{ask, decoded, log, project_of, read};
use crate::answer::{self, Answer};
use crate::body::Upload;
use crate::documents;
use crate::error::Problem;
use crate::parameters::values;
use crate::problem_code::ProblemCode;
use crate::request::Request;

const FIELDS: &[&str] = &["url", "quota_percent", "limit_percent", "meter", "subject", "period", "value"];
const PERCENT: &str = "a whole number from 1 to 100";
const VALUE: &str = "a whole number greater than 0, or a text such as \"12.5\"";
const URL: &str =
    "an address that begins with https:// or http://, without a user name, of at most 2000 bytes";

const NO_THRESHOLD: Problem = Problem::new(
    ProblemCode::NotFound,
    "there is no such threshold; GET /v1/admin/projects/{name}/thresholds lists those of a project",
);

/// The thresholds of a project.
///
/// # Errors
/// 400 for a parameter, 404 when there is no such project, 503 when the store cannot be reached.
pub async fn list(request: Request<'_>, _upload: Upload, _key: &AdminKey) -> Result<Answer, Problem> {
    let thresholds: Vec<_> = of_project(request).await?.iter().map(documents::threshold).collect();
    Ok(answer::json(StatusCode::OK, &json!({ "thresholds": thresholds })))
}

/// `GET` shows a threshold, `PUT` creates or replaces it, `DELETE` deletes it.
///
/// # Errors
/// 404 when there is no such threshold, 422 for a wrong field, those of reading a body, and as [`list`].
pub async fn threshold(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    let name = decoded(request.second_id).ok_or(NO_THRESHOLD)?;
    match request.head.method {
        Method::PUT => set(request, upload, key, name).await,
        Method::DELETE => delete(request, key, &name).await,
        _ => {
            let all = of_project(request).await?;
            let found = all.iter().find(|info| info.definition.name == name).ok_or(NO_THRESHOLD)?;
            Ok(answer::json(StatusCode::OK, &documents::threshold(found)))
        }
    }
}

async fn of_project(request: Request<'_>) -> Result<Vec<ThresholdInfo>, Problem> {
    let [] = values(request.head.uri.query().unwrap_or_default(), [], "none")?;
    let project = project_of(request).await?.project;
    ask(request.service, request.service.store.thresholds(Some(project))).await
}

async fn set(request: Request<'_>, upload: Upload, key: &AdminKey, name: String) -> Result<Answer, Problem> {
    let mut fields = read(request, upload, FIELDS).await?;
    let url = fields.required_text("url", URL)?;
    Endpoint::parse(&url).map_err(|_| invalid("url", URL))?;
    let definition = ThresholdDefinition { name, rule: rule(&mut fields)?, url };
    let project = project_of(request).await?;
    let update = request.service.store.set_threshold(&project.name, &definition);
    let update = ask(request.service, update).await?;
    log(key, "set a threshold", &format!("{} of {}", definition.name, project.name));
    let mut document = documents::threshold(&update.info);
    document["signing_secret"] = json!(update.secret);
    Ok(answer::json(StatusCode::OK, &document))
}

async fn delete(request: Request<'_>, key: &AdminKey, name: &str) -> Result<Answer, Problem> {
    let [] = values(request.head.uri.query().unwrap_or_default(), [], "none")?;
    let project = project_of(request).await?;
    let deleted = request.service.store.delete_threshold(&project.name, name);
    if !ask(request.service, deleted).await? {
        return Err(NO_THRESHOLD);
    }
    log(key, "deleted a threshold", &format!("{name} of {}", project.name));
    Ok(answer::json(StatusCode::OK, &json!({ "deleted": name })))
}

/// What must reach which value: `quota_percent` alone, or `meter` with `limit_percent` or `value`.
fn rule(fields: &mut Fields) -> Result<ThresholdRule, FieldError> {
    let names: Vec<&str> = ThresholdPeriod::VARIANTS.iter().map(<&'static str>::from).collect();
    let of_quota = percent(fields, "quota_percent")?;
    let of_limit = percent(fields, "limit_percent")?;
    let (meter, subject) = (fields.text("meter")?, fields.text("subject")?);
    let period = fields.choice::<ThresholdPeriod>("period", &names)?;
    let value = fields.decimal("value", VALUE)?;
    if let Some(percent) = of_quota {
        if of_limit.is_some() || meter.is_some() || subject.is_some() || period.is_some() || value.is_some() {
            let expected = "absent from a threshold of a meter or a limit; send it alone, or leave it out";
            return Err(invalid("quota_percent", expected));
        }
        return Ok(ThresholdRule::Quota { percent });
    }
    let expected = "the slug of a meter, unless quota_percent is there";
    let slug = meter.ok_or(FieldError::Missing { field: "meter", expected })?;
    let period = period.unwrap_or(ThresholdPeriod::Month);
    match (of_limit, value) {
        (Some(_), Some(_)) => {
            Err(invalid("limit_percent", "absent when value is there; send one of the two"))
        }
        (Some(percent), None) => Ok(ThresholdRule::Limit { percent, slug, subject, period }),
        (None, Some(value)) => {
            let value = Decimal::of_text(&value).filter(|value| *value > Decimal::default());
            let value = value.ok_or_else(|| invalid("value", VALUE))?;
            Ok(ThresholdRule::Meter { slug, subject, period, value })
        }
        (None, None) => Err(FieldError::Missing { field: "value", expected: VALUE }),
    }
}

fn percent(fields: &mut Fields, field: &'static str) -> Result<Option<u8>, FieldError> {
    let found = fields.number(field, 100).map_err(|_| invalid(field, PERCENT))?;
    let percent = |found: u64| u8::try_from(found).ok().filter(|percent| *percent > 0);
    found.map(|found| percent(found).ok_or_else(|| invalid(field, PERCENT))).transpose()
}
