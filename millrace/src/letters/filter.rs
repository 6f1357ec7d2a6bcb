//! The options that select letters, and how they are recorded with a redrive.

use clap::Args;
use millrace_settings::number;
use millrace_store::{LetterFilter, Store};
use time::OffsetDateTime;

use crate::failure::Failure;
use crate::find;
use crate::moment::{TimeArgument, shown};

/// A letter is selected when it meets all conditions.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    /// Letters of this project
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Letters created at or after this time: a duration before now (2h, 7d), a day (2026-11-21) or a time
    /// (2026-11-21T14:00:00Z)
    #[arg(long, value_name = "WHEN")]
    since: Option<TimeArgument>,
    /// Letters created before this time, in the same formats
    #[arg(long, value_name = "WHEN")]
    until: Option<TimeArgument>,
    /// Letters that the database refused with this SQLSTATE
    #[arg(long, value_name = "CODE")]
    sqlstate: Option<String>,
    /// Letters of calls that the API refused with this code, such as invalid_type
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Letters with this text in the reason, ignoring case
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Letters with these numbers; may be repeated
    #[arg(long = "id", value_name = "N", num_args = 1.., value_parser = number(1..=i64::MAX))]
    ids: Vec<i64>,
}

impl FilterArgs {
    /// The filter as of now. It selects letters that are still dead.
    ///
    /// # Errors
    /// When there is no such project, or a time is out of range.
    pub(crate) async fn resolve(&self, store: &dyn Store) -> Result<LetterFilter, Failure> {
        if let Some(name) = &self.project {
            find::project(store, name).await?;
        }
        let now = OffsetDateTime::now_utc();
        let moment = |option: &str, when: Option<TimeArgument>| {
            let moment = when.map(|when| when.from(now)).transpose();
            moment.map_err(|expected| Failure::Usage(format!("--{option}: {expected}")))
        };
        Ok(LetterFilter {
            project: self.project.clone(),
            since: moment("since", self.since)?,
            until: moment("until", self.until)?,
            sqlstate: self.sqlstate.clone(),
            code: self.code.clone(),
            reason: self.reason.clone(),
            ids: self.ids.clone(),
            also_redriven: false,
        })
    }
}

/// The filter as options, with absolute times; empty when there is no condition.
pub(crate) fn options(filter: &LetterFilter) -> String {
    let numbers = filter.ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
    let conditions = [
        ("project", filter.project.as_ref().map(|name| format!("{name:?}"))),
        ("since", filter.since.map(shown)),
        ("until", filter.until.map(shown)),
        ("sqlstate", filter.sqlstate.clone()),
        ("code", filter.code.clone()),
        ("reason", filter.reason.as_ref().map(|reason| format!("{reason:?}"))),
        ("id", (!filter.ids.is_empty()).then_some(numbers)),
    ];
    let option = |(option, value): (&str, Option<String>)| value.map(|value| format!("--{option} {value}"));
    conditions.into_iter().filter_map(option).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_recorded_filter_has_absolute_times() {
        let filter = LetterFilter {
            project: Some("my shop".to_owned()),
            since: Some(datetime!(2026-11-20 8:30 UTC)),
            ids: vec![7, 9],
            ..LetterFilter::default()
        };
        assert_eq!(options(&filter), "--project \"my shop\" --since 2026-11-20T08:30:00Z --id 7 9");
        assert_eq!(options(&LetterFilter::default()), "");
    }
}
