//! The period of a report, and its windows. Pure: the current time is an argument.
//!
//! A time is never rounded: it is a full hour, or it is refused. Reports of periods next to each other would
//! otherwise count an hour twice.

use millrace_store::{end_of_hour, full_hour};
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use super::window::Window;
use crate::failure::Failure;
use crate::moment::{TimeArgument, shown};

/// Most windows of one report.
const WINDOWS_MAX: usize = 2_000;

/// `from` is included, `to` is not. Both are full hours, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Period {
    pub(crate) from: OffsetDateTime,
    pub(crate) to: OffsetDateTime,
    pub(crate) window: Window,
}

impl Period {
    /// The period that these options select.
    ///
    /// # Errors
    /// [`Failure::Usage`] with the name of the option.
    pub(crate) fn new(
        from: Option<TimeArgument>,
        to: Option<TimeArgument>,
        window: Window,
        now: OffsetDateTime,
    ) -> Result<Self, Failure> {
        let limit = |option: &str, when: TimeArgument| match when {
            TimeArgument::Day(date) => Ok(date.midnight().assume_utc()),
            TimeArgument::At(time) => {
                full_hour(time).map_err(|part| Failure::Usage(format!("{option} {part}")))
            }
            // "The last seven days" is seven whole days and today. --from and --to begin the same window.
            ago @ TimeArgument::Ago(_) => match ago.from(now) {
                Ok(time) => Ok(window.start(time)),
                Err(expected) => Err(Failure::Usage(format!("{option}: {expected}"))),
            },
        };
        let from = from.map(|from| limit("--from", from)).transpose()?;
        let to = to.map_or(Ok(end_of_hour(now)), |to| limit("--to", to))?;
        let from = from.unwrap_or_else(|| window.default_start(to - Duration::NANOSECOND));
        if from >= to {
            let message = format!(
                "--from must be before --to, but --from is {} and --to is {}",
                shown(from),
                shown(to)
            );
            return Err(Failure::Usage(message));
        }
        let period = Self { from, to, window };
        if period.windows().len() > WINDOWS_MAX {
            let message = format!(
                "--from: the report has more than {WINDOWS_MAX} windows; choose a wider --window, or a later --from"
            );
            return Err(Failure::Usage(message));
        }
        Ok(period)
    }

    /// The start of every window, but of no more than [`WINDOWS_MAX`] + 1. The first is cut to the period.
    pub(super) fn windows(&self) -> Vec<OffsetDateTime> {
        let next = |start: &OffsetDateTime| Some(self.window.next(self.window.start(*start)));
        std::iter::successors(Some(self.from), next)
            .take_while(|start| *start < self.to)
            .take(WINDOWS_MAX + 1)
            .collect()
    }

    /// The label of the window that starts here.
    pub(super) fn label(&self, start: OffsetDateTime) -> String {
        let label = match self.window {
            Window::Hour => start.format(format_description!("[year]-[month]-[day] [hour]:[minute]")),
            Window::Day => start.format(format_description!("[year]-[month]-[day]")),
            Window::Month => start.format(format_description!("[year]-[month]")),
        };
        label.expect("every time has these parts")
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 14:30:05 UTC);

    fn period(from: Option<&str>, to: Option<&str>, window: Window) -> Result<Period, String> {
        let when = |text: &str| text.parse().expect("a time");
        Period::new(from.map(when), to.map(when), window, NOW).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_default_is_this_month_by_day_this_day_by_hour_and_this_year_by_month() {
        let from = |window| period(None, None, window).unwrap().from;
        assert_eq!(from(Window::Day), datetime!(2026-11-01 00:00 UTC));
        assert_eq!(from(Window::Hour), datetime!(2026-11-21 00:00 UTC));
        assert_eq!(from(Window::Month), datetime!(2026-01-01 00:00 UTC));
        let october = period(None, Some("2026-11-01"), Window::Day).unwrap();
        assert_eq!((october.from, october.windows().len()), (datetime!(2026-10-01 00:00 UTC), 31));
    }

    #[test]
    fn a_duration_before_now_is_made_of_whole_windows() {
        let week = period(Some("7d"), None, Window::Day).unwrap();
        let now = datetime!(2026-11-21 15:00 UTC);
        assert_eq!((week.from, week.to, week.windows().len()), (datetime!(2026-11-14 00:00 UTC), now, 8));
        let hours = period(Some("2h"), None, Window::Hour).unwrap();
        assert_eq!((hours.from, hours.windows().len()), (datetime!(2026-11-21 12:00 UTC), 3));
        let before = period(Some("7d"), Some("2d"), Window::Day).unwrap();
        let after = period(Some("2d"), None, Window::Day).unwrap();
        assert_eq!((before.from, before.to, after.to), (week.from, after.from, week.to), "nothing twice");
    }

    #[test]
    fn a_time_is_used_as_it_is_given_or_refused() {
        let given =
            period(Some("2026-11-20T10:00:00Z"), Some("2026-11-21T05:30:00+05:30"), Window::Day).unwrap();
        assert_eq!(
            (given.from, given.to),
            (datetime!(2026-11-20 10:00 UTC), datetime!(2026-11-21 00:00 UTC))
        );
        assert_eq!(given.windows(), [given.from]);
        for (from, to, message) in [
            (
                Some("2026-11-20T10:20:00Z"),
                None,
                "--from must be at a full hour UTC: use 2026-11-20T10:00:00Z or 2026-11-20T11:00:00Z",
            ),
            (
                None,
                Some("2026-11-20T10:00:00+05:30"),
                "--to must be at a full hour UTC: use 2026-11-20T09:30:00+05:30 or 2026-11-20T10:30:00+05:30",
            ),
        ] {
            assert_eq!(period(from, to, Window::Hour).unwrap_err(), message);
        }
    }

    #[test]
    fn the_windows_of_a_period_begin_with_the_period() {
        let days = period(Some("2026-11-19T22:00:00Z"), Some("2026-11-21T01:00:00Z"), Window::Day).unwrap();
        let midnights = [datetime!(2026-11-20 00:00 UTC), datetime!(2026-11-21 00:00 UTC)];
        assert_eq!(days.windows(), [days.from, midnights[0], midnights[1]]);
    }

    #[test]
    fn months_of_all_lengths_follow_each_other() {
        let year = period(Some("2025-12-31"), Some("2027-01-02"), Window::Month).unwrap();
        let labels: Vec<_> = year.windows().into_iter().map(|start| year.label(start)).collect();
        assert_eq!((labels.len(), labels[0].as_str(), labels[2].as_str()), (14, "2025-12", "2026-02"));
        assert_eq!(labels[13], "2027-01");
    }

    #[test]
    fn an_impossible_period_is_refused_with_the_name_of_the_option() {
        for (from, to, window, names) in [
            (Some("2026-11-21"), Some("2026-11-21"), Window::Day, "--from must be before --to"),
            (Some("2027-01-01"), None, Window::Day, "--from must be before --to"),
            (Some("2001-01-01"), None, Window::Hour, "wider --window"),
            (Some("900y"), None, Window::Month, "--from: expected"),
            (None, Some("900y"), Window::Month, "--to: expected"),
        ] {
            let when =
                |text: &str| if text == "900y" { TimeArgument::Ago(AGES) } else { text.parse().unwrap() };
            let refused = Period::new(from.map(when), to.map(when), window, NOW).unwrap_err().to_string();
            assert!(refused.contains(names), "{refused}");
        }
    }

    const AGES: std::time::Duration = std::time::Duration::from_secs(900 * 365 * 86_400);
}
