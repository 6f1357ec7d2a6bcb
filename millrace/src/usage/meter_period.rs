//! The period of a report of a meter, in a time zone. Pure: the current time is an argument.

use millrace_store::{MeterWindow, MeterZone, end_of_quarter, full_quarter};
use time::macros::format_description;
use time::{Date, Duration, Month, OffsetDateTime};

use super::arguments::UsageArgs;
use super::window::Window;
use crate::failure::Failure;
use crate::moment::TimeArgument;

/// `from` is included, `to` is not. Both are at a quarter of an hour, in UTC.
#[derive(Clone, Debug)]
pub(super) struct MeterPeriod {
    pub(super) from: OffsetDateTime,
    pub(super) to: OffsetDateTime,
    /// `None` for one figure of the whole period.
    pub(super) window: Option<MeterWindow>,
    pub(super) zone: MeterZone,
}

impl MeterPeriod {
    /// The period that these options select.
    ///
    /// # Errors
    /// [`Failure::Usage`] with the name of the option.
    pub(super) fn new(arguments: &UsageArgs, now: OffsetDateTime) -> Result<Self, Failure> {
        let zone = zone_of(arguments.timezone.as_deref())?;
        let window = match arguments.window {
            Some(window) => Some(window_of(window)),
            None => arguments.by.is_empty().then_some(MeterWindow::Day),
        };
        let limit = |option: &str, when| limit(option, when, window, &zone, now);
        let to = arguments.to.map_or(Ok(end_of_quarter(now)), |to| limit("--to", to))?;
        let from = match arguments.from {
            Some(from) => limit("--from", from)?,
            None => default_start(&zone, window, to - Duration::MICROSECOND),
        };
        let checked = zone.check_period(from, to, window);
        checked.map_err(|error| Failure::Usage(format!("--from: {error}")))?;
        Ok(Self { from, to, window, zone })
    }

    /// A time of the zone, to the minute.
    pub(super) fn shown(&self, time: OffsetDateTime) -> String {
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
        self.zone.local(time).format(format).expect("every time has these parts")
    }

    /// The label of the window that starts here.
    pub(super) fn label(&self, window: MeterWindow, start_us: i64) -> String {
        let local = self.zone.local(moment(start_us));
        let label = match window {
            // An hour is repeated when clocks are set back: its offset tells which one it is.
            MeterWindow::Hour => local.format(format_description!(
                "[year]-[month]-[day] [hour]:[minute] [offset_hour sign:mandatory]:[offset_minute]"
            )),
            MeterWindow::Minute => local.format(format_description!("[year]-[month]-[day] [hour]:[minute]")),
            MeterWindow::Day => local.format(format_description!("[year]-[month]-[day]")),
            MeterWindow::Month => local.format(format_description!("[year]-[month]")),
        };
        label.expect("every time has these parts")
    }

    /// The start of every window. The first is cut to the period.
    pub(super) fn windows(&self, window: MeterWindow) -> Vec<OffsetDateTime> {
        let next = |start: &OffsetDateTime| {
            let whole = self.zone.start_of(window, *start);
            // Into the next window: a day has 23 to 25 hours, and a month 28 to 31 days.
            let within = match window {
                MeterWindow::Minute => return Some(whole + Duration::MINUTE),
                MeterWindow::Hour => return Some(whole + Duration::HOUR),
                MeterWindow::Day => whole + Duration::hours(30),
                MeterWindow::Month => whole + Duration::days(33),
            };
            Some(self.zone.start_of(window, within))
        };
        std::iter::successors(Some(self.from), next).take_while(|start| *start < self.to).collect()
    }
}

fn limit(
    option: &str,
    when: TimeArgument,
    window: Option<MeterWindow>,
    zone: &MeterZone,
    now: OffsetDateTime,
) -> Result<OffsetDateTime, Failure> {
    let usage = |text: String| Failure::Usage(format!("{option} {text}"));
    match when {
        TimeArgument::Day(date) => match zone.start_of_date(date) {
            Some(start) => start.map_err(|part| usage(part.to_string())),
            None => Err(usage("must be a day of the calendar".to_owned())),
        },
        TimeArgument::At(time) => full_quarter(time).map_err(|part| usage(part.to_string())),
        ago @ TimeArgument::Ago(_) => {
            let time = ago.from(now).map_err(|expected| Failure::Usage(format!("{option}: {expected}")))?;
            Ok(zone.start_of(window.unwrap_or(MeterWindow::Day), time))
        }
    }
}

/// The start of the day for hours, of the year for months, and of the month otherwise.
fn default_start(zone: &MeterZone, window: Option<MeterWindow>, end: OffsetDateTime) -> OffsetDateTime {
    let month = zone.start_of(MeterWindow::Month, end);
    match window {
        Some(MeterWindow::Minute | MeterWindow::Hour) => zone.start_of(MeterWindow::Day, end),
        Some(MeterWindow::Month) => {
            let january = Date::from_calendar_date(zone.local(end).year(), Month::January, 1);
            january.ok().and_then(|date| zone.start_of_date(date)?.ok()).unwrap_or(month)
        }
        Some(MeterWindow::Day) | None => month,
    }
}

/// The window of a report of a meter.
fn window_of(window: Window) -> MeterWindow {
    match window {
        Window::Hour => MeterWindow::Hour,
        Window::Day => MeterWindow::Day,
        Window::Month => MeterWindow::Month,
    }
}

/// The zone of a report.
///
/// # Errors
/// When there is no such zone.
fn zone_of(name: Option<&str>) -> Result<MeterZone, Failure> {
    let expected = "--timezone: expected a name of the IANA database, such as Europe/Berlin or UTC";
    MeterZone::find(name.unwrap_or(MeterZone::UTC)).ok_or_else(|| Failure::Usage(expected.to_owned()))
}

pub(super) fn micros(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

pub(super) fn moment(us: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-10-27 14:20:05 UTC);

    fn arguments(from: Option<&str>, window: Option<Window>, zone: &str) -> UsageArgs {
        let from = from.map(|text| text.parse().unwrap());
        UsageArgs { from, window, timezone: Some(zone.to_owned()), ..UsageArgs::default() }
    }

    #[test]
    fn the_default_is_this_month_in_the_zone_by_day() {
        let period = MeterPeriod::new(&arguments(None, None, "Europe/Berlin"), NOW).unwrap();
        assert_eq!(
            (period.from, period.to),
            (datetime!(2026-09-30 22:00 UTC), datetime!(2026-10-27 14:30 UTC))
        );
        assert_eq!(period.window, Some(MeterWindow::Day));
        let months = MeterPeriod::new(&arguments(None, Some(Window::Month), "Asia/Tokyo"), NOW).unwrap();
        assert_eq!(months.from, datetime!(2025-12-31 15:00 UTC));
        let hours = MeterPeriod::new(&arguments(None, Some(Window::Hour), "Asia/Kolkata"), NOW).unwrap();
        assert_eq!(hours.from, datetime!(2026-10-26 18:30 UTC));
        let by = UsageArgs { by: vec!["subject".to_owned()], ..UsageArgs::default() };
        assert_eq!(MeterPeriod::new(&by, NOW).unwrap().window, None);
    }

    #[test]
    fn windows_follow_each_other_where_clocks_change() {
        let days = MeterPeriod::new(&arguments(Some("2026-10-24"), None, "Europe/Berlin"), NOW).unwrap();
        let labels: Vec<_> = days
            .windows(MeterWindow::Day)
            .into_iter()
            .map(|start| days.label(MeterWindow::Day, micros(start)))
            .collect();
        assert_eq!(labels, ["2026-10-24", "2026-10-25", "2026-10-26", "2026-10-27"]);
        let from = Some("2026-10-25T00:00:00Z");
        let hours = MeterPeriod::new(&arguments(from, Some(Window::Hour), "Europe/Berlin"), NOW).unwrap();
        let labels = hours
            .windows(MeterWindow::Hour)
            .into_iter()
            .map(|start| hours.label(MeterWindow::Hour, micros(start)));
        let labels: Vec<_> = labels.take(3).collect();
        assert_eq!(labels, ["2026-10-25 02:00 +02:00", "2026-10-25 02:00 +01:00", "2026-10-25 03:00 +01:00"]);
    }

    #[test]
    fn a_wrong_option_is_named() {
        for (from, window, zone, text) in [
            (Some("2026-10-01T00:10:00Z"), None, "UTC", "--from must be at a quarter of an hour"),
            (Some("2026-10-28"), None, "UTC", "--from: must be before the end"),
            (Some("2026-01-01"), Some(Window::Hour), "UTC", "--from: the period has more than 2000 windows"),
            (None, None, "Mars/Base", "--timezone: expected a name"),
        ] {
            let refused = MeterPeriod::new(&arguments(from, window, zone), NOW).unwrap_err().to_string();
            assert!(refused.starts_with(text), "{refused}");
        }
    }
}
