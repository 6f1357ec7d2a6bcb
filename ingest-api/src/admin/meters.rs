//! `/v1/admin/projects/{name}/meters`: lists, creates and deletes the meters of a project.

use hyper::{Method, StatusCode};
use millrace_event::meter::{Aggregation, DefinitionError, Group, MeterDefinition, Path};
use millrace_store::{AdminKey, MeterStart};
use serde_json::json;
use strum::VariantArray;

use super::fields::{FieldError, Fields, invalid as expected};
use super::{NO_PROJECT, ask, decoded, log, project_of, read};
use crate::answer::{self, Answer};
use crate::body::Upload;
use crate::error::Problem;
use crate::meters::{MeterEntry, NOT_FOUND};
use crate::parameters::values;
use crate::request::Request;

const FIELDS: &[&str] = &["slug", "event", "aggregation", "value", "groups", "backfill"];
const PATH: &str = "a path, such as $.tokens or subject";

/// `GET` lists, `POST` creates.
///
/// # Errors
/// 404 when there is no such project, 409 for a slug that is taken, 422 for a wrong field, 503 when the store
/// cannot be reached, and those of reading a body.
pub async fn meters(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    if request.head.method == Method::POST {
        return create(request, upload, key).await;
    }
    let [] = values(request.head.uri.query().unwrap_or_default(), [], "none")?;
    let project = project_of(request).await?;
    let infos = ask(request.service, request.service.store.meters(Some(project.project))).await?;
    let meters: Vec<_> = infos.iter().map(MeterEntry::of).collect();
    Ok(answer::json(StatusCode::OK, &json!({ "meters": meters })))
}

/// Deletes a meter with its figures.
///
/// # Errors
/// 404 when there is no such meter, and as [`meters`].
pub async fn delete(request: Request<'_>, _upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    let [] = values(request.head.uri.query().unwrap_or_default(), [], "none")?;
    let project = decoded(request.id).ok_or(NO_PROJECT)?;
    let slug = decoded(request.second_id).ok_or(NOT_FOUND)?;
    if !ask(request.service, request.service.store.delete_meter(&project, &slug)).await? {
        return Err(NOT_FOUND);
    }
    log(key, "deleted a meter", &format!("{slug} of {project}"));
    Ok(answer::json(StatusCode::OK, &json!({ "deleted": slug })))
}

async fn create(request: Request<'_>, upload: Upload, key: &AdminKey) -> Result<Answer, Problem> {
    let mut fields = read(request, upload, FIELDS).await?;
    let definition = definition(&mut fields)?;
    let start = match fields.flag("backfill")? {
        Some(true) => MeterStart::FirstEvent,
        Some(false) | None => MeterStart::Now,
    };
    let project = project_of(request).await?;
    let created = request.service.store.create_meter(&project.name, &definition, start);
    let info = ask(request.service, created).await?;
    log(key, "created a meter", &format!("{} of {}", definition.slug, project.name));
    Ok(answer::json(StatusCode::CREATED, &MeterEntry::of(&info)))
}

fn definition(fields: &mut Fields) -> Result<MeterDefinition, FieldError> {
    let names: Vec<&str> = Aggregation::VARIANTS.iter().map(<&'static str>::from).collect();
    let value = fields.text("value")?.map(|text| text.parse::<Path>()).transpose();
    let group = |(name, path): (String, String)| match path.parse() {
        Ok(path) => Ok(Group { name, path }),
        Err(_) => {
            Err(expected("groups", "an object with a path for each name, such as {\"model\": \"$.model\"}"))
        }
    };
    let definition = MeterDefinition {
        slug: fields.required_text("slug", "the name of the meter in its project")?,
        event: fields.required_text("event", "the name of the events that it counts")?,
        aggregation: fields.choice("aggregation", &names)?.unwrap_or(Aggregation::Count),
        value: value.map_err(|_| expected("value", PATH))?,
        groups: fields.pairs("groups")?.into_iter().map(group).collect::<Result<_, _>>()?,
    };
    definition.check().map_err(|error| refused(&error))?;
    Ok(definition)
}

/// What the field must be. The message of the error itself would repeat the value.
fn refused(error: &DefinitionError) -> FieldError {
    match error {
        DefinitionError::Slug(_) => {
            expected("slug", "up to 64 of a-z, 0-9, '_' and '-', beginning with a letter or a digit")
        }
        DefinitionError::Event => expected("event", "a name of 1 to 200 characters"),
        DefinitionError::NoValue(_) => expected("value", PATH),
        DefinitionError::ValueOfCount => expected("value", "absent: the aggregation count takes none"),
        DefinitionError::TooManyGroups
        | DefinitionError::GroupIsSubject
        | DefinitionError::GroupName(_)
        | DefinitionError::GroupTwice(_) => expected(
            "groups",
            "an object with at most 8 names of up to 64 letters, digits and '_', none of them subject, each with a path",
        ),
    }
}
