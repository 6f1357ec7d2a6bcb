//! Keys of projects: `/v1/admin/projects/{name}/keys` lists and creates them, `/v1/admin/keys/{key_id}`
//! revokes one, and `/v1/admin/keys/{key_id}/rotate` replaces one. A key is answered once, when it is
//! created.

use std::time::Duration;

use hyper::{Method, StatusCode};
use millrace_event::policy::KeyScope;
use millrace_store::{AdminKey, KeyInfo, KeyOptions, NewKey};
use serde_json::{Value, json};
use strum::VariantNames;

use super::fields::{FieldError, Fields};
use super::{ask, log, name, number, project_of, read};
use crate::answer::{self, Answer};
use crate::body::Upload;
use crate::error::Problem;
use crate::parameters::{shown, values};
use crate::problem_code::ProblemCode;
use crate::request::Request;

/// The fields of a new key.
pub(super) const KEY_FIELDS: &[&str; 4] = &["key", "signed", "scope", "origins"];
/// The longest time that an old key may work next to the new one, in seconds.
const OVERLAP_S_MAX: u64 = 90 * 86_400;
/// Unless the request says another time.
const OVERLAP_S: u64 = 86_400;

const NO_KEY: Problem = Problem::new(
    ProblemCode::NotFound,
    "there is no such key, or it is revoked; GET /v1/admin/projects/{name}/keys lists those of a project",
);

/// `GET` lists the keys of a project, `POST` creates one.
///
/// # Errors
/// 404 when there is no such project, 409 for a chosen key that exists, 422 for a wrong field, 503 when the
/// store cannot be reached, and those of reading a body.
pub async fn keys(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    if request.head.method == Method::POST {
        return create(request, upload, key).await;
    }
    let [] = values(request.head.uri.query().unwrap_or_default(), [], "none")?;
    let project = project_of(request).await?;
    let found = ask(request.service, request.service.store.keys(Some(project.project))).await?;
    let keys: Vec<_> = found.iter().map(as_json).collect();
    Ok(answer::json(StatusCode::OK, &json!({ "keys": keys })))
}

async fn create(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    let options = key_options(&mut read(request, upload, KEY_FIELDS).await?)?;
    let project = project_of(request).await?;
    let new = ask(request.service, request.service.store.create_key(&project.name, &options)).await?;
    log(key, "created a key of a project", &format!("key {} of {}", new.key_id, project.name));
    Ok(answer::json(StatusCode::CREATED, &new_key_as_json(&new, &options)))
}

/// Replaces a key: both work until the overlap ends.
///
/// # Errors
/// 404 when there is no such key, 422 for one that was rotated before, and as [`keys`].
pub async fn rotate(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    let mut fields = read(request, upload, &["overlap_s", "key"]).await?;
    let overlap_s = fields.number("overlap_s", OVERLAP_S_MAX)?.unwrap_or(OVERLAP_S);
    let chosen = fields.text("key")?;
    let key_id = number(request.id).ok_or(NO_KEY)?;
    let store = &request.service.store;
    let rotated = store.rotate_key(key_id, Duration::from_secs(overlap_s), chosen.as_deref());
    let rotated = ask(request.service, rotated).await?;
    log(key, "rotated a key of a project", &format!("key {key_id} of {}", rotated.project));
    let rotated = json!({
        "project": rotated.project,
        "rotated": key_id,
        "rotated_expires_at": shown(rotated.old_expires_at),
        "key_id": rotated.new.key_id,
        "key": rotated.new.key,
        "signing_secret": rotated.new.signing_secret,
    });
    Ok(answer::json(StatusCode::CREATED, &rotated))
}

/// Revokes a key: all API processes refuse it within seconds.
///
/// # Errors
/// 404 when there is no such key or it is revoked already, and as [`keys`].
pub async fn revoke(request: Request<'_>, _upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    let [] = values(request.head.uri.query().unwrap_or_default(), [], "none")?;
    let key_id = number(request.id).ok_or(NO_KEY)?;
    if !ask(request.service, request.service.store.revoke_key(key_id)).await? {
        return Err(NO_KEY);
    }
    log(key, "revoked a key of a project", &format!("key {key_id}"));
    Ok(answer::json(StatusCode::OK, &json!({ "revoked": key_id })))
}

/// What a new key is to be.
pub(super) fn key_options(fields: &mut Fields) -> Result<KeyOptions, FieldError> {
    Ok(KeyOptions {
        chosen: fields.text("key")?,
        signed: fields.flag("signed")?.unwrap_or(false),
        scope: fields.choice::<KeyScope>("scope", KeyScope::VARIANTS)?.unwrap_or_default(),
        allowed_origins: fields.texts("origins")?,
    })
}

/// A key that was just created, for its owner.
pub(super) fn new_key_as_json(new: &NewKey, options: &KeyOptions) -> Value {
    json!({
        "key_id": new.key_id,
        "key": new.key,
        "signing_secret": new.signing_secret,
        "scope": name(options.scope),
    })
}

fn as_json(key: &KeyInfo) -> Value {
    json!({
        "key_id": key.key_id,
        "scope": name(key.scope),
        "origins": key.allowed_origins,
        "signed": key.signed,
        "created_at": shown(key.created_at),
        "last_used_at": key.last_used_at.map(shown),
        "expires_at": key.expires_at.map(shown),
        "revoked_at": key.revoked_at.map(shown),
    })
}
