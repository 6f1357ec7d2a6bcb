//! `GET /v1/rejections`: what was refused of a project, by all API processes.

use hyper::StatusCode;
use millrace_event::printable::{escaped_json, text_of_bytes};
use millrace_store::{RejectionCount, RejectionKind, RejectionSample};
use serde::Serialize;
use time::OffsetDateTime;

use super::query::RejectionsQuery;
use crate::answer::{self, Answer};
use crate::api_key::ApiKey;
use crate::error::Problem;
use crate::parameters::shown;
use crate::request::Request;

#[derive(Serialize)]
struct RejectionsReport<'a> {
    from: String,
    to: String,
    counts: Vec<Count<'a>>,
    samples: Vec<Sample<'a>>,
}

#[derive(Serialize)]
struct Count<'a> {
    hour: String,
    kind: RejectionKind,
    code: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct Sample<'a> {
    at: String,
    kind: RejectionKind,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
}

/// Asks the store for the counts and the last samples of the project.
///
/// # Errors
/// 400 for a wrong parameter, 503 when the store cannot be reached.
pub async fn get(request: Request<'_>, key: &ApiKey) -> Result<Answer, Problem> {
    let query = request.head.uri.query().unwrap_or_default();
    let RejectionsQuery { from, to, limit } = RejectionsQuery::read(query, OffsetDateTime::now_utc())?;
    let Request { service, .. } = request;
    let (store, project) = (&service.store, Some(key.account.project));
    let asked = async {
        tokio::try_join!(
            store.rejections(project, from, to),
            store.rejection_samples(project, RejectionKind::ALL, limit)
        )
    };
    let (counts, samples) = service.reports.ask(asked).await?;
    let report = RejectionsReport {
        from: shown(from),
        to: shown(to),
        counts: counts.iter().map(Count::of).collect(),
        samples: samples.iter().map(Sample::of).collect(),
    };
    let json = serde_json::to_string(&report).expect("string keys and whole numbers");
    Ok(answer::json_text(StatusCode::OK, escaped_json(&json)))
}

impl<'a> Count<'a> {
    fn of(row: &'a RejectionCount) -> Self {
        Self { hour: shown(row.hour), kind: row.kind, code: &row.code, count: row.count }
    }
}

impl<'a> Sample<'a> {
    fn of(row: &'a RejectionSample) -> Self {
        Self {
            at: shown(row.at),
            kind: row.kind,
            code: &row.code,
            field: row.field.as_deref(),
            message: &row.message,
            payload: row.payload.as_deref().map(text_of_bytes),
        }
    }
}
