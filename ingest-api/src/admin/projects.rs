//! `/v1/admin/projects`: lists, creates, shows and changes projects.

use hyper::{Method, StatusCode};
use millrace_event::policy::{BOUND_S_MAX, Dedupe, OutOfBounds};
use millrace_store::{AdminKey, PolicyChange, ProjectInfo};
use serde_json::{Value, json};
use strum::VariantNames;

use super::fields::{FieldError, Fields, invalid};
use super::keys::{KEY_FIELDS, key_options, new_key_as_json};
use super::{NO_PROJECT, ask, log, name, pages, project_of, read};
use crate::answer::{self, Answer};
use crate::body::Upload;
use crate::error::Problem;
use crate::parameters::{ParameterError, shown, values};
use crate::request::Request;

const CHANGED: &[&str] = &["plan", "dedupe", "oldest_s", "newest_s", "out_of_bounds", "store_ip"];
const CREATED: &[&str] = &[
    "name",
    "plan",
    "dedupe",
    "oldest_s",
    "newest_s",
    "out_of_bounds",
    "store_ip",
    KEY_FIELDS[0],
    KEY_FIELDS[1],
    KEY_FIELDS[2],
    KEY_FIELDS[3],
];

/// `GET` lists, `POST` creates.
///
/// # Errors
/// 400 for a parameter, 409 for a name that is taken, 422 for a wrong field, 503 when the store cannot be
/// reached, and those of reading a body.
pub async fn projects(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    if request.head.method == Method::POST { create(request, upload, key).await } else { list(request).await }
}

/// `GET` shows, `PATCH` changes.
///
/// # Errors
/// 404 when there is no such project, and as [`projects`].
pub async fn project(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    if request.head.method == Method::PATCH {
        return change(request, upload, key).await;
    }
    let [] = values(request.head.uri.query().unwrap_or_default(), [], "none")?;
    Ok(answer::json(StatusCode::OK, &as_json(&project_of(request).await?)))
}

async fn list(request: Request<'_>) -> Result<Answer, Problem> {
    let query = request.head.uri.query().unwrap_or_default();
    let [limit, after] = values(query, ["limit", "after"], "limit and after, each once")?;
    let limit = pages::size(limit.as_deref())?;
    let after = after.unwrap_or_default();
    // PostgreSQL takes no such text.
    if after.contains('\0') {
        return Err(ParameterError::Invalid { name: "after", expected: "the name of a project" }.into());
    }
    // One more says whether there is another page.
    let mut found = ask(request.service, request.service.store.projects_after(&after, limit + 1)).await?;
    let next = pages::cut(&mut found, limit).map(|last| last.name.clone());
    let projects: Vec<_> = found.iter().map(as_json).collect();
    Ok(answer::json(StatusCode::OK, &json!({ "projects": projects, "next_after": next })))
}

async fn create(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    let mut fields = read(request, upload, CREATED).await?;
    let name = fields.required_text("name", "the name of the project, as reports show it")?;
    let plan = fields.required_text("plan", "the name of a plan, such as free")?;
    let policy = policy(&mut fields)?;
    let options = key_options(&mut fields)?;
    let store = &request.service.store;
    check_plan(request, &plan).await?;
    let (_, new) = ask(request.service, store.create_project(&name, &plan, &policy, &options)).await?;
    log(key, "created a project", &name);
    let created = ask(request.service, store.project(&name)).await?.ok_or(NO_PROJECT)?;
    let created = json!({ "project": as_json(&created), "key": new_key_as_json(&new, &options) });
    Ok(answer::json(StatusCode::CREATED, &created))
}

async fn change(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    let mut fields = read(request, upload, CHANGED).await?;
    fields.check_not_empty()?;
    let plan = fields.text("plan")?;
    let policy = policy(&mut fields)?;
    let found = project_of(request).await?;
    let store = &request.service.store;
    if let Some(plan) = &plan {
        check_plan(request, plan).await?;
    }
    if policy != PolicyChange::default() {
        ask(request.service, store.set_policy(found.project, &policy)).await?;
    }
    if let Some(plan) = &plan {
        ask(request.service, store.move_project(found.project, plan)).await?;
    }
    log(key, "changed a project", &found.name);
    let changed = ask(request.service, store.project(&found.name)).await?.ok_or(NO_PROJECT)?;
    Ok(answer::json(StatusCode::OK, &as_json(&changed)))
}

/// So that an unknown plan is refused before anything is changed.
async fn check_plan(request: Request<'_>, plan: &str) -> Result<(), Problem> {
    let plans = ask(request.service, request.service.store.plans()).await?;
    if plans.iter().any(|known| known.name == *plan) {
        return Ok(());
    }
    Err(invalid("plan", "the name of a plan; GET /v1/admin/plans lists all").into())
}

fn policy(fields: &mut Fields) -> Result<PolicyChange, FieldError> {
    Ok(PolicyChange {
        dedupe: fields.choice::<Dedupe>("dedupe", Dedupe::VARIANTS)?,
        oldest_s: fields.nullable_number("oldest_s", BOUND_S_MAX)?,
        newest_s: fields.nullable_number("newest_s", BOUND_S_MAX)?,
        out_of_bounds: fields.choice::<OutOfBounds>("out_of_bounds", OutOfBounds::VARIANTS)?,
        store_ip: fields.flag("store_ip")?,
    })
}

fn as_json(project: &ProjectInfo) -> Value {
    let policy = project.policy;
    json!({
        "name": project.name,
        "project_id": project.project,
        "plan": project.plan,
        "live_keys": project.live_keys,
        "created_at": shown(project.created_at),
        "last_used_at": project.last_used_at.map(shown),
        "policy": {
            "dedupe": name(policy.dedupe),
            "oldest_s": policy.oldest_s,
            "newest_s": policy.newest_s,
            "out_of_bounds": name(policy.out_of_bounds),
            "store_ip": policy.store_ip,
        },
    })
}
