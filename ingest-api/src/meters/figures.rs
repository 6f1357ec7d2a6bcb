//! Asks the store for the meters of a project and their figures.

use millrace_event::plan::ProjectId;
use millrace_store::{MeterInfo, MeterRow, MeterWindow, StoreError};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::question::{Question, QuestionError, SUBJECT};
use crate::error::Problem;
use crate::problem_code::ProblemCode;
use crate::service::Service;

pub const NOT_FOUND: Problem =
    Problem::new(ProblemCode::NotFound, "the project of this key has no such meter; /v1/meters lists all");

/// A meter, and the rows that answer a question to it.
pub(super) struct Figures {
    pub(super) info: MeterInfo,
    pub(super) rows: Vec<MeterRow>,
}

/// The meters of a project, by slug.
pub(super) async fn meters(service: &Service, project: ProjectId) -> Result<Vec<MeterInfo>, Problem> {
    service.reports.ask(service.store.meters(Some(project))).await
}

/// The answer to a question to the meter that `find` finds.
///
/// # Errors
/// `not_found`, `invalid_parameter`, and those of the gate of reports.
pub(super) async fn figures(
    service: &Service,
    project: ProjectId,
    find: impl Fn(&[MeterInfo]) -> Option<MeterInfo>,
    question: &Question,
) -> Result<Figures, Problem> {
    let store = &service.store;
    let asked = async {
        let infos = store.meters(Some(project)).await?;
        let Some(info) = find(&infos) else { return Ok(Err(NOT_FOUND)) };
        let query = match question.to_meter(&info.meter) {
            Ok(query) => query,
            Err(error) => return Ok(Err(error.into())),
        };
        match store.meter_usage(&info.meter, &query).await {
            Ok(rows) => Ok(Ok(Figures { info, rows })),
            Err(StoreError::Invalid(reason)) if query.window == Some(MeterWindow::Minute) => {
                Ok(Err(QuestionError::Minute { name: question.names.window, reason }.into()))
            }
            // The database of time zones of the server is older than ours.
            Err(StoreError::Invalid(_)) => {
                Ok(Err(QuestionError::TimeZone { name: question.names.time_zone }.into()))
            }
            Err(error) => Err(error),
        }
    };
    service.reports.ask(asked).await?
}

/// A figure as a JSON number with all its digits.
pub(super) fn number(row: &MeterRow) -> Result<&RawValue, Problem> {
    serde_json::from_str(&row.value).map_err(|error| {
        tracing::error!(%error, value = row.value, "a figure of a meter is no number");
        Problem::store_unavailable()
    })
}

pub(super) fn moment(us: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The values of the groups of a row, by their names.
pub(super) fn groups_of(question: &Question, row: &MeterRow) -> Map<String, Value> {
    let names = question.group_by.iter().filter(|name| *name != SUBJECT);
    names.zip(&row.groups).map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect()
}
