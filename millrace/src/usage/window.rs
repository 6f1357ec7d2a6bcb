//! Windows of time: an hour, a day or a month. Pure.

use clap::ValueEnum;
use millrace_store::UsageWindow;
use time::{Duration, OffsetDateTime, Time};

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Window {
    Hour,
    Day,
    Month,
}

impl Window {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The start of the window that contains this time.
    pub(super) fn start(self, time: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Hour => time.truncate_to_hour(),
            Self::Day => time.replace_time(Time::MIDNIGHT),
            Self::Month => {
                time.replace_time(Time::MIDNIGHT).replace_day(1).expect("every month has a first day")
            }
        }
    }

    /// The start of the next window.
    pub(super) fn next(self, start: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Hour => start + Duration::HOUR,
            Self::Day => start + Duration::DAY,
            // No month has more than 31 days, and no two consecutive months have fewer than 59.
            Self::Month => self.start(start + Duration::days(31)),
        }
    }

    /// The default start of a report that ends here: of the day for hours, of the month for days, of the year
    /// for months.
    pub(super) fn default_start(self, end: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Hour => Self::Day.start(end),
            Self::Day => Self::Month.start(end),
            Self::Month => {
                Self::Month.start(end).replace_month(time::Month::January).expect("January has a first day")
            }
        }
    }
}

impl From<Window> for UsageWindow {
    fn from(window: Window) -> Self {
        match window {
            Window::Hour => Self::Hour,
            Window::Day => Self::Day,
            Window::Month => Self::Month,
        }
    }
}
