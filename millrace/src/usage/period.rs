//! Which time a report is about, and how it falls into windows. Pure: the time is an argument.

use time::macros::format_description;
use time::{Duration, OffsetDateTime, Time};

use super::Window;
use crate::failure::Failure;
use crate::moment::When;

/// Windows in one report.
const WINDOWS_MAX: usize = 2_000;

/// From the first moment, included, to the last, excluded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Period {
    pub(super) from: OffsetDateTime,
    pub(super) to: OffsetDateTime,
    pub(super) window: Window,
}

impl Period {
    /// What is meant when these are said.
    ///
    /// # Errors
    /// [`Failure::Usage`] naming the flag.
    pub(super) fn new(
        from: Option<When>,
        to: Option<When>,
        window: Window,
        now: OffsetDateTime,
    ) -> Result<Self, Failure> {
        let moment = |flag: &str, when: When| {
            when.from(now).map_err(|complaint| Failure::Usage(format!("{flag}: {complaint}")))
        };
        let to = to.map_or(Ok(now), |to| moment("--to", to))?;
        let from = match from {
            // Metering is by the hour.
            Some(at @ When::At(_)) => moment("--from", at)?.truncate_to_hour(),
            // The last seven days are seven whole days and today.
            Some(ago @ When::Ago(_)) => window.start(moment("--from", ago)?),
            None => window.usual_start(to - Duration::NANOSECOND),
        };
        if from >= to {
            return Err(Failure::Usage(
                "--from must be before --to, which is now unless you say it".to_owned(),
            ));
        }
        let period = Self { from, to, window };
        if period.windows().len() > WINDOWS_MAX {
            let message =
                format!("--from: that makes more than {WINDOWS_MAX} windows; take a wider --window");
            return Err(Failure::Usage(message));
        }
        Ok(period)
    }

    /// The first moment of every window; one more than are allowed at most.
    pub(super) fn windows(&self) -> Vec<OffsetDateTime> {
        let next = |start: &OffsetDateTime| Some(self.window.next(*start));
        std::iter::successors(Some(self.window.start(self.from)), next)
            .take_while(|start| *start < self.to)
            .take(WINDOWS_MAX + 1)
            .collect()
    }

    /// A window's name.
    pub(super) fn label(&self, start: OffsetDateTime) -> String {
        let label = match self.window {
            Window::Hour => start.format(format_description!("[year]-[month]-[day] [hour]:[minute]")),
            Window::Day => start.format(format_description!("[year]-[month]-[day]")),
            Window::Month => start.format(format_description!("[year]-[month]")),
        };
        label.expect("every moment has these parts")
    }
}

impl Window {
    /// The first moment of the window around this one.
    fn start(self, moment: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Hour => moment.truncate_to_hour(),
            Self::Day => moment.replace_time(Time::MIDNIGHT),
            Self::Month => {
                moment.replace_time(Time::MIDNIGHT).replace_day(1).expect("every month has a first")
            }
        }
    }

    fn next(self, start: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Hour => start + Duration::HOUR,
            Self::Day => start + Duration::DAY,
            // No month has more than 31 days, and no two have fewer than 59.
            Self::Month => self.start(start + Duration::days(31)),
        }
    }

    /// Where a report that ends here begins, unless it is said: hours of a day, days of a month, months of a year.
    fn usual_start(self, end: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Hour => Self::Day.start(end),
            Self::Day => Self::Month.start(end),
            Self::Month => {
                Self::Month.start(end).replace_month(time::Month::January).expect("January has a first")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 14:30:05 UTC);

    fn period(from: Option<&str>, to: Option<&str>, window: Window) -> Result<Period, String> {
        let when = |text: &str| text.parse().expect("a moment");
        Period::new(from.map(when), to.map(when), window, NOW).map_err(|failure| failure.to_string())
    }

    #[test]
    fn without_words_it_is_this_month_by_day_this_day_by_hour_this_year_by_month() {
        let from = |window| period(None, None, window).unwrap().from;
        assert_eq!(from(Window::Day), datetime!(2026-11-01 00:00 UTC));
        assert_eq!(from(Window::Hour), datetime!(2026-11-21 00:00 UTC));
        assert_eq!(from(Window::Month), datetime!(2026-01-01 00:00 UTC));
        let october = period(None, Some("2026-11-01"), Window::Day).unwrap();
        assert_eq!((october.from, october.windows().len()), (datetime!(2026-10-01 00:00 UTC), 31));
    }

    #[test]
    fn a_span_back_is_made_of_whole_windows() {
        let week = period(Some("7d"), None, Window::Day).unwrap();
        assert_eq!((week.from, week.to, week.windows().len()), (datetime!(2026-11-14 00:00 UTC), NOW, 8));
        let hours = period(Some("2h"), None, Window::Hour).unwrap();
        assert_eq!((hours.from, hours.windows().len()), (datetime!(2026-11-21 12:00 UTC), 3));
        let said = period(Some("2026-11-20T10:20:00Z"), None, Window::Day).unwrap();
        assert_eq!(said.from, datetime!(2026-11-20 10:00 UTC), "what is said is kept, by the hour");
    }

    #[test]
    fn months_follow_each_other_whatever_their_lengths() {
        let year = period(Some("2025-12-31"), Some("2027-01-02"), Window::Month).unwrap();
        let labels: Vec<_> = year.windows().into_iter().map(|start| year.label(start)).collect();
        assert_eq!((labels.len(), labels[0].as_str(), labels[2].as_str()), (14, "2025-12", "2026-02"));
        assert_eq!(labels[13], "2027-01");
    }

    #[test]
    fn a_period_that_cannot_be_names_the_flag() {
        for (from, to, window, names) in [
            (Some("2026-11-21"), Some("2026-11-21"), Window::Day, "--from must be before --to"),
            (Some("2027-01-01"), None, Window::Day, "--from must be before --to"),
            (Some("2001-01-01"), None, Window::Hour, "wider --window"),
            (Some("900y"), None, Window::Month, "--from: expected"),
            (None, Some("900y"), Window::Month, "--to: expected"),
        ] {
            let when = |text: &str| if text == "900y" { When::Ago(AGES) } else { text.parse().unwrap() };
            let refused = Period::new(from.map(when), to.map(when), window, NOW).unwrap_err().to_string();
            assert!(refused.contains(names), "{refused}");
        }
    }

    const AGES: std::time::Duration = std::time::Duration::from_secs(900 * 365 * 86_400);
}
