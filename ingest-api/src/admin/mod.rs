//! `/v1/admin`: manages projects, keys, plans, meters, limits and thresholds over HTTP, for programs such as
//! one that makes a project for each new customer. It does what the commands of `millrace` do, under an admin
//! key, which belongs to the installation and not to a project.
//!
//! Every change is written to the log, with the number and the name of the key that made it. This module must
//! never log a key, and never answer a project's key.

mod caller;
mod fields;
mod keys;
mod limits;
mod meters;
mod notifications;
mod pages;
mod plans;
mod projects;
mod thresholds;

use millrace_store::{AdminKey, ProjectInfo, StoreError};
use percent_encoding::percent_decode_str;
use serde_json::Value;

pub use self::caller::caller;
pub use self::fields::FieldError;
pub use self::keys::{keys, revoke as revoke_key, rotate as rotate_key};
pub use self::limits::limits;
pub use self::meters::{delete as delete_meter, meters};
pub use self::notifications::list as notifications;
pub use self::plans::{list as plans, set as set_plan};
pub use self::projects::{project, projects};
pub use self::thresholds::{list as thresholds, threshold};

use self::fields::Fields;
use crate::body::Upload;
use crate::error::Problem;
use crate::headers;
use crate::problem_code::ProblemCode;
use crate::request::Request;
use crate::service::Service;

/// A path that names what does not exist.
const NO_PROJECT: Problem =
    Problem::new(ProblemCode::NotFound, "there is no such project; GET /v1/admin/projects lists all");

/// Reads the body as a JSON object with these members.
async fn read(
    request: Request<'_>,
    upload: Upload,
    names: &'static [&'static str],
) -> Result<Fields, Problem> {
    let all = &request.head.headers;
    headers::json_only(all)?;
    let encoding = headers::content_encoding(all)?;
    let body = request.service.bodies.read(upload, encoding, request.body_bytes_max, None).await?;
    Ok(Fields::read(&body.decoded, names)?)
}

/// Asks the store, or has it change something, within the limits of reports.
async fn ask<T>(
    service: &Service,
    question: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Problem> {
    let answered = service.reports.ask(async { Ok(question.await) }).await?;
    answered.map_err(refused)
}

/// What the store refuses is the caller's to correct, and the caller may know the names in the message.
fn refused(error: StoreError) -> Problem {
    match error {
        StoreError::Conflict(message) => Problem::of_operator(ProblemCode::Conflict, message),
        StoreError::Missing(message) => Problem::of_operator(ProblemCode::NotFound, message),
        StoreError::Invalid(message) => Problem::of_operator(ProblemCode::InvalidField, message),
        other => other.into(),
    }
}

/// The project that the path names.
async fn project_of(request: Request<'_>) -> Result<ProjectInfo, Problem> {
    let name = decoded(request.id).ok_or(NO_PROJECT)?;
    ask(request.service, request.service.store.project(&name)).await?.ok_or(NO_PROJECT)
}

/// A segment of the path. `None` when it is not UTF-8, or has U+0000, which no database takes.
fn decoded(segment: &str) -> Option<String> {
    let text = percent_decode_str(segment).decode_utf8().ok()?;
    (!text.contains('\0')).then(|| text.into())
}

/// A number in the path, from 1 on.
fn number(segment: &str) -> Option<i64> {
    let is_number = segment.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| segment.parse().ok()).flatten().filter(|number| *number > 0)
}

fn log(key: &AdminKey, action: &'static str, what: &str) {
    tracing::info!(admin_key = key.admin_key_id, name = key.name, what, "an admin key {action}");
}

/// The name of a variant, as the database and the command line write it.
fn name<T>(variant: T) -> Value
where
    &'static str: From<T>,
{
    Value::from(<&'static str>::from(variant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_the_path_is_decoded_and_a_number_has_digits_only() {
        assert_eq!(decoded("my%20shop%2f1").as_deref(), Some("my shop/1"));
        assert_eq!([decoded("%ff"), decoded("a%00")], [None, None]);
        assert_eq!([number("7"), number("007")], [Some(7), Some(7)]);
        for other in ["", "0", "-1", "+1", "1.0", "x", "9223372036854775808"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
