//! The admin key of a request. The store finds it by its hash at each request, so that a revoked key is
//! refused from the next one on.

use millrace_event::key::{ADMIN_KEY_PREFIX, hash_key, same_hash};
use millrace_store::AdminKey;
use time::OffsetDateTime;

use crate::auth;
use crate::error::Problem;
use crate::problem_code::ProblemCode;
use crate::request::Request;

/// The key in the headers.
///
/// # Errors
/// 401 for a key that is not known, 403 for the key of a project, 503 when the store cannot be reached.
pub async fn caller(request: Request<'_>) -> Result<AdminKey, Problem> {
    let key = auth::key_in_headers(&request.head.headers)?;
    let service = request.service;
    if !key.starts_with(ADMIN_KEY_PREFIX) {
        let of_project = service.accounts.authenticate(&key, OffsetDateTime::now_utc())?;
        drop(of_project);
        let message = "this path needs an admin key, and this is the key of a project; create one with \
                       `millrace admin-key create NAME`";
        return Err(Problem::new(ProblemCode::Forbidden, message));
    }
    let hash = hash_key(&key);
    let found = service.reports.ask(service.store.admin_key(&hash)).await?;
    // The comparison that decides is constant-time; the index of the store is searched by the hash, which
    // says nothing about a key with 256 random bits.
    found.filter(|found| same_hash(&found.key_hash, &hash)).ok_or_else(|| {
        Problem::new(ProblemCode::Unauthenticated, "the admin key is not known, or it is revoked")
    })
}
