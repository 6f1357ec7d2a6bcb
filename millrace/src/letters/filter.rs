//! Which letters: the arguments, the store's filter, and the words that the audit row keeps.

use clap::Args;
use millrace_store::{LetterFilter, Store};
use time::OffsetDateTime;

use crate::failure::Failure;
use crate::find;
use crate::moment::{When, shown};

/// Which letters. Every condition that is there must be met.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which letters")]
pub(crate) struct FilterArgs {
    /// Of this project
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// That died then or later: a span back (2h, 7d), a day (2026-11-21) or a moment (2026-11-21T14:00:00Z)
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    /// That died before then, written in the same ways
    #[arg(long, value_name = "WHEN")]
    until: Option<When>,
    /// That the database refused with this SQLSTATE
    #[arg(long, value_name = "CODE")]
    sqlstate: Option<String>,
    /// With this text in the reason, in whatever case
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// With one of these numbers; may be given more than once
    #[arg(long = "id", value_name = "N", num_args = 1..)]
    ids: Vec<i64>,
}

impl FilterArgs {
    /// What is meant now: letters that are still dead.
    ///
    /// # Errors
    /// [`Failure`] when there is no such project or no such time.
    pub(crate) async fn check(&self, store: &dyn Store) -> Result<LetterFilter, Failure> {
        if let Some(name) = &self.project {
            find::project(store, name).await?;
        }
        let now = OffsetDateTime::now_utc();
        let moment = |option: &str, when: Option<When>| {
            let moment = when.map(|when| when.from(now)).transpose();
            moment.map_err(|expected| Failure::Usage(format!("--{option}: {expected}")))
        };
        Ok(LetterFilter {
            project: self.project.clone(),
            since: moment("since", self.since)?,
            until: moment("until", self.until)?,
            sqlstate: self.sqlstate.clone(),
            reason: self.reason.clone(),
            ids: self.ids.clone(),
            also_redriven: false,
        })
    }
}

/// A filter in words that mean the same whenever they are read; empty when there is no condition.
pub(crate) fn words(filter: &LetterFilter) -> String {
    let numbers = filter.ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
    let conditions = [
        ("project", filter.project.as_ref().map(|name| format!("{name:?}"))),
        ("since", filter.since.map(shown)),
        ("until", filter.until.map(shown)),
        ("sqlstate", filter.sqlstate.clone()),
        ("reason", filter.reason.as_ref().map(|reason| format!("{reason:?}"))),
        ("id", (!filter.ids.is_empty()).then_some(numbers)),
    ];
    let said = |(option, value): (&str, Option<String>)| value.map(|value| format!("--{option} {value}"));
    conditions.into_iter().filter_map(said).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_words_of_a_filter_mean_the_same_tomorrow() {
        let filter = LetterFilter {
            project: Some("my shop".to_owned()),
            since: Some(datetime!(2026-11-20 8:30 UTC)),
            ids: vec![7, 9],
            ..LetterFilter::default()
        };
        assert_eq!(words(&filter), "--project \"my shop\" --since 2026-11-20T08:30:00Z --id 7 9");
        assert_eq!(words(&LetterFilter::default()), "");
    }
}
