//! `GET /v1/admin/projects/{name}/notifications`: the thresholds that were reached, and how far the delivery
//! of each notification is. Read only.

use hyper::StatusCode;
use millrace_store::{AdminKey, NotificationState};
use serde_json::json;

use super::{ask, number, pages, project_of};
use crate::answer::{self, Answer};
use crate::body::Upload;
use crate::documents;
use crate::error::Problem;
use crate::parameters::{ParameterError, values};
use crate::request::Request;

/// The notifications of a project, the newest first.
///
/// # Errors
/// 400 for a parameter, 404 when there is no such project, 503 when the store cannot be reached.
pub async fn list(request: Request<'_>, _upload: Upload, _key: &AdminKey) -> Result<Answer, Problem> {
    let query = request.head.uri.query().unwrap_or_default();
    let [limit, before, state] =
        values(query, ["limit", "before", "state"], "limit, before and state, each once")?;
    let limit = pages::size(limit.as_deref())?;
    let invalid = |name, expected| ParameterError::Invalid { name, expected };
    let before = before.map(|text| number(&text).ok_or(invalid("before", "next_before of the page before")));
    let state = state.map(|text| {
        text.parse::<NotificationState>().map_err(|_| invalid("state", "pending, delivered or dead"))
    });
    let (before, state) = (before.transpose()?, state.transpose()?);
    let project = project_of(request).await?.project;
    // One more says whether there is another page.
    let asked = request.service.store.notifications(Some(project), state, before, limit + 1);
    let mut found = ask(request.service, asked).await?;
    let next = pages::cut(&mut found, limit).map(|last| last.notification_id);
    let notifications: Vec<_> = found.iter().map(documents::notification).collect();
    Ok(answer::json(StatusCode::OK, &json!({ "notifications": notifications, "next_before": next })))
}
