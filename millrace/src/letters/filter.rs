//! Which letters: the arguments, the store's filter, and the words that the audit row keeps.

use std::fmt::Write;

use clap::Args;
use shared::store::LetterFilter;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, Time};

/// Which letters. Every condition that is there must be met.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which letters")]
pub(crate) struct FilterArgs {
    /// Of this project
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// That died then or later: how long ago (90m, 2h, 3d) or a date (2026-11-20, 2026-11-20T08:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<OffsetDateTime>,
    /// That died before then
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<OffsetDateTime>,
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
    /// For the store.
    pub(crate) fn filter(&self, also_redriven: bool) -> LetterFilter {
        LetterFilter {
            project: self.project.clone(),
            since: self.since,
            until: self.until,
            sqlstate: self.sqlstate.clone(),
            reason: self.reason.clone(),
            ids: self.ids.clone(),
            also_redriven,
        }
    }

    /// In words that mean the same whenever they are read; empty when there is no condition.
    pub(crate) fn words(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut say = |option: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("--{option} {value}")));
        };
        say("project", self.project.as_ref().map(|name| format!("{name:?}")));
        say("since", self.since.map(shown));
        say("until", self.until.map(shown));
        say("sqlstate", self.sqlstate.clone());
        say("reason", self.reason.as_ref().map(|reason| format!("{reason:?}")));
        let ids = self.ids.iter().fold(String::new(), |mut text, id| {
            write!(text, " {id}").expect("a String takes everything");
            text
        });
        say("id", (!ids.is_empty()).then(|| ids.trim_start().to_owned()));
        words.join(" ")
    }
}

/// A moment as we print them: RFC 3339, UTC, to the second.
pub(crate) fn shown(moment: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    moment.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_else(|_| moment.to_string())
}

/// Reads how long ago, a date, or a date with time and zone.
fn moment(text: &str) -> Result<OffsetDateTime, String> {
    moment_at(text, OffsetDateTime::now_utc())
}

fn moment_at(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = time::Duration::try_from(ago).ok();
        return ago.and_then(|ago| now.checked_sub(ago)).ok_or("that was before time began".to_owned());
    }
    if let Ok(day) = Date::parse(text, &format_description!("[year]-[month]-[day]")) {
        return Ok(day.with_time(Time::MIDNIGHT).assume_utc());
    }
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "say how long ago (90m, 2h, 3d) or a date (2026-11-20, 2026-11-20T08:00:00Z)".to_owned())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_moment_is_a_date_or_how_long_ago() {
        let now = datetime!(2026-11-21 9:00 UTC);
        assert_eq!(moment_at("2h 30m", now), Ok(datetime!(2026-11-21 6:30 UTC)));
        moment_at("20000y", now).expect_err("there was no such year");
        assert_eq!(moment("2026-11-20"), Ok(datetime!(2026-11-20 0:00 UTC)));
        assert_eq!(moment("2026-11-20T09:30:00+01:00"), Ok(datetime!(2026-11-20 8:30 UTC)));
        for nonsense in ["yesterday", "2h ago", "2026-13-01", "", "2026-11-20 08:00"] {
            moment(nonsense).expect_err(nonsense);
        }
    }

    #[test]
    fn the_words_of_a_filter_mean_the_same_tomorrow() {
        let filter = FilterArgs {
            project: Some("my shop".to_owned()),
            since: Some(datetime!(2026-11-20 9:30 +1)),
            ids: vec![7, 9],
            ..FilterArgs::default()
        };
        assert_eq!(filter.words(), "--project \"my shop\" --since 2026-11-20T08:30:00Z --id 7 9");
        assert_eq!(FilterArgs::default().words(), "");
    }
}
