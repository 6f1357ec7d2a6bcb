//! `/api/v1/meters` in the form of OpenMeter, so that `client.meters` of its SDKs reads the figures.
//!
//! The form is that of `openmeter` 1.0.0b236 for Python and `@openmeter/sdk` 1.0.0-beta.232 for Node.
//! `query_json` of the one and `query` of the other are a GET. `query` and `queryPost` are a POST with the
//! same parameters as JSON. To restrict a question to subjects also gives each of them rows of its own, as
//! there.

mod parameters;

use hyper::{Method, StatusCode};
use millrace_event::meter::MeterDefinition;
use millrace_store::{MeterInfo, MeterRow};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use self::parameters::{ListQuery, Parameters};
use super::figures::{Figures, NOT_FOUND, figures, groups_of, meters, moment, number};
use super::native::wants_csv;
use super::question::{Question, QuestionError, ROWS_MAX};
use super::table;
use crate::answer::{self, Answer};
use crate::api_key::ApiKey;
use crate::body::Upload;
use crate::error::Problem;
use crate::headers;
use crate::parameters::{shown, values};
use crate::request::Request;
use crate::signature;

/// A meter in OpenMeter's spelling.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MeterView<'a> {
    id: String,
    slug: &'a str,
    name: &'a str,
    aggregation: String,
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_property: Option<String>,
    group_by: Map<String, Value>,
    created_at: String,
    updated_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QueryResult<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_size: Option<String>,
    data: Vec<QueryRow<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QueryRow<'a> {
    value: &'a RawValue,
    window_start: String,
    window_end: String,
    /// `null` unless each subject has rows of its own.
    subject: Option<&'a str>,
    group_by: Map<String, Value>,
}

/// `GET /api/v1/meters`
///
/// # Errors
/// 400 for a parameter, 503 when the store cannot be reached.
pub async fn list(request: Request<'_>, key: &ApiKey) -> Result<Answer, Problem> {
    let page = ListQuery::read(request.head.uri.query().unwrap_or_default())?;
    let infos = meters(request.service, key.account.project).await?;
    let views: Vec<_> = infos.iter().skip(page.skip()).take(page.size()).map(MeterView::of).collect();
    Ok(answer::json(StatusCode::OK, &views))
}

/// `GET /api/v1/meters/{idOrSlug}`
///
/// # Errors
/// 404 when the project has no such meter, and as [`list`].
pub async fn get(request: Request<'_>, key: &ApiKey) -> Result<Answer, Problem> {
    let [] = values(request.head.uri.query().unwrap_or_default(), [], "none")?;
    let infos = meters(request.service, key.account.project).await?;
    let info = by_id_or_slug(&infos, request.id).ok_or(NOT_FOUND)?;
    Ok(answer::json(StatusCode::OK, &MeterView::of(info)))
}

/// `GET` and `POST /api/v1/meters/{idOrSlug}/query`
///
/// # Errors
/// 400 for a wrong parameter, those of reading a body, and as [`get`].
pub async fn query(request: Request<'_>, upload: Upload, key: &ApiKey) -> Result<Answer, Problem> {
    let parameters = parameters(request, upload, key).await?;
    let mut question = parameters.question(OffsetDateTime::now_utc())?;
    question.limit = ROWS_MAX + 1;
    let find = |infos: &[MeterInfo]| by_id_or_slug(infos, request.id).cloned();
    let found = figures(request.service, key.account.project, find, &question).await?;
    if found.rows.len() > ROWS_MAX as usize {
        return Err(QuestionError::TooManyRows.into());
    }
    if wants_csv(&request.head.headers) {
        return Ok(table::of_figures(&question, &found.rows, table::OPENMETER));
    }
    json(&parameters, &question, &found)
}

/// The parameters in the query, or in the body of a POST.
async fn parameters(request: Request<'_>, upload: Upload, key: &ApiKey) -> Result<Parameters, Problem> {
    let headers = &request.head.headers;
    if request.head.method != Method::POST {
        signature::verify_now(&key.account, headers, b"")?;
        return Ok(Parameters::of_query(request.head.uri.query().unwrap_or_default())?);
    }
    let encoding = headers::content_encoding(headers)?;
    let bodies = &request.service.bodies;
    let body = bodies.read(upload, encoding, request.body_bytes_max, Some(&key.project)).await?;
    signature::verify_now(&key.account, headers, &body.raw)?;
    Ok(Parameters::of_body(&body.decoded)?)
}

fn json(parameters: &Parameters, question: &Question, found: &Figures) -> Result<Answer, Problem> {
    let period = &question.period;
    let row = |row| QueryRow::of(question, row);
    let result = QueryResult {
        from: parameters.from.is_some().then(|| shown(period.from)),
        to: parameters.to.is_some().then(|| shown(period.to)),
        window_size: period.window.map(|window| <&str>::from(window).to_ascii_uppercase()),
        data: found.rows.iter().map(row).collect::<Result<_, _>>()?,
    };
    Ok(answer::json(StatusCode::OK, &result))
}

/// A slug may look like an id, so it comes first.
fn by_id_or_slug<'a>(infos: &'a [MeterInfo], text: &str) -> Option<&'a MeterInfo> {
    let by_slug = infos.iter().find(|info| info.meter.definition.slug == text);
    by_slug.or_else(|| infos.iter().find(|info| info.meter.id.0.to_string() == text))
}

impl<'a> MeterView<'a> {
    fn of(info: &'a MeterInfo) -> Self {
        let MeterDefinition { slug, event, aggregation, value, groups } = &info.meter.definition;
        let path =
            |group: &millrace_event::meter::Group| (group.name.clone(), Value::from(group.path.to_string()));
        Self {
            id: info.meter.id.0.to_string(),
            slug,
            name: slug,
            aggregation: aggregation.as_ref().to_ascii_uppercase(),
            event_type: event,
            value_property: value.as_ref().map(ToString::to_string),
            group_by: groups.iter().map(path).collect(),
            created_at: shown(info.created_at),
            // A definition never changes.
            updated_at: shown(info.created_at),
        }
    }
}

impl<'a> QueryRow<'a> {
    fn of(question: &Question, row: &'a MeterRow) -> Result<Self, Problem> {
        Ok(Self {
            value: number(row)?,
            window_start: shown(moment(row.start_us)),
            window_end: shown(moment(row.end_us)),
            subject: row.subject.as_deref(),
            group_by: groups_of(question, row),
        })
    }
}
