//! The time zone of a question to a meter, in which its days and months begin. Pure: the database of time
//! zones is part of the program, so that every installation knows the same ones.

use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};
use time::{Date, Duration, OffsetDateTime, UtcOffset};

use crate::{MeterWindow, PartOfQuarter, full_quarter};

/// Most windows of one answer.
pub const METER_WINDOWS_MAX: i64 = 2_000;
/// Longest period of one answer without windows, in days.
pub const METER_DAYS_MAX: i64 = 3_660;

/// A time zone of the IANA database.
#[derive(Clone, Debug)]
pub struct MeterZone {
    name: String,
    zone: TimeZone,
}

/// Why a period of figures is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MeterPeriodError {
    #[error("must be before the end of the period")]
    Empty,
    #[error("the period has more than {METER_WINDOWS_MAX} windows; choose wider windows, or a later start")]
    TooManyWindows,
    #[error("the period is longer than {METER_DAYS_MAX} days; choose a later start")]
    TooLong,
}

impl MeterZone {
    pub const UTC: &str = "UTC";

    /// The zone with this name, such as `Europe/Berlin`. `None` if there is none.
    pub fn find(name: &str) -> Option<Self> {
        let zone = TimeZone::get(name).ok()?;
        Some(Self { name: zone.iana_name()?.to_owned(), zone })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The start of a day in this zone, in UTC.
    ///
    /// # Errors
    /// [`PartOfQuarter`] for a day of the far past, when a zone had another distance from UTC than today.
    pub fn start_of_date(&self, date: Date) -> Option<Result<OffsetDateTime, PartOfQuarter>> {
        let (year, month) = (i16::try_from(date.year()).ok()?, i8::try_from(u8::from(date.month())).ok()?);
        let day = jiff::civil::Date::new(year, month, i8::try_from(date.day()).ok()?).ok()?;
        Some(full_quarter(moment(&day.to_zoned(self.zone.clone()).ok()?)?))
    }

    /// The same time, with the offset that this zone has at that time.
    pub fn local(&self, time: OffsetDateTime) -> OffsetDateTime {
        let offset = self.zoned(time).map_or(Offset::UTC, |zoned| zoned.offset());
        time.to_offset(UtcOffset::from_whole_seconds(offset.seconds()).unwrap_or(UtcOffset::UTC))
    }

    /// The start of the day or month in this zone that contains the time, or of the hour or minute, in UTC.
    pub fn start_of(&self, window: MeterWindow, time: OffsetDateTime) -> OffsetDateTime {
        let start = self.zoned(time).and_then(|zoned| {
            let day = match window {
                MeterWindow::Minute => {
                    return Some(time - (self.local(time) - self.local(time).truncate_to_minute()));
                }
                MeterWindow::Hour => {
                    return Some(time - (self.local(time) - self.local(time).truncate_to_hour()));
                }
                MeterWindow::Day => zoned,
                MeterWindow::Month => zoned.first_of_month().ok()?,
            };
            moment(&day.start_of_day().ok()?)
        });
        start.unwrap_or(time).to_offset(UtcOffset::UTC)
    }

    /// Checks the limits of a period: an answer has a bounded number of windows, and is made of a bounded
    /// number of figures of each subject.
    ///
    /// # Errors
    /// [`MeterPeriodError`], whose text continues the name of the start of the period.
    pub fn check_period(
        &self,
        from: OffsetDateTime,
        to: OffsetDateTime,
        window: Option<MeterWindow>,
    ) -> Result<(), MeterPeriodError> {
        if from >= to {
            return Err(MeterPeriodError::Empty);
        }
        if to - from > Duration::days(METER_DAYS_MAX) {
            return Err(MeterPeriodError::TooLong);
        }
        let Some(window) = window else { return Ok(()) };
        let (first, last) = (self.local(from), self.local(to - Duration::MICROSECOND));
        let month = |time: OffsetDateTime| i64::from(time.year()) * 12 + i64::from(u8::from(time.month()));
        let windows = match window {
            MeterWindow::Minute => (to - from).whole_minutes(),
            MeterWindow::Hour => ((to - self.start_of(window, from)).whole_minutes() + 59) / 60,
            MeterWindow::Day => 1 + i64::from(last.to_julian_day() - first.to_julian_day()),
            MeterWindow::Month => 1 + month(last) - month(first),
        };
        if windows > METER_WINDOWS_MAX { Err(MeterPeriodError::TooManyWindows) } else { Ok(()) }
    }

    /// The earliest start, nearly, of a period that ends at this time: of an answer with windows, the start
    /// of a window, and no answer has too many.
    pub fn earliest_start(&self, to: OffsetDateTime, window: Option<MeterWindow>) -> OffsetDateTime {
        // Room for the parts of windows at both ends, and for a day that is longer than others.
        let windows = METER_WINDOWS_MAX - 2;
        match window {
            Some(MeterWindow::Minute) => to - Duration::hours(windows / 60),
            Some(window @ MeterWindow::Hour) => self.start_of(window, to - Duration::hours(windows)),
            Some(window @ MeterWindow::Day) => self.start_of(window, to - Duration::days(windows)),
            Some(MeterWindow::Month) | None => to - Duration::days(METER_DAYS_MAX),
        }
    }

    fn zoned(&self, time: OffsetDateTime) -> Option<Zoned> {
        let timestamp = Timestamp::from_nanosecond(time.unix_timestamp_nanos()).ok()?;
        Some(timestamp.to_zoned(self.zone.clone()))
    }
}

fn moment(zoned: &Zoned) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(zoned.timestamp().as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::*;

    fn zone(name: &str) -> MeterZone {
        MeterZone::find(name).unwrap()
    }

    #[test]
    fn a_day_and_a_month_begin_at_midnight_of_the_zone() {
        let berlin = zone("Europe/Berlin");
        let at = datetime!(2026-10-25 12:10 UTC);
        assert_eq!(berlin.start_of(MeterWindow::Day, at), datetime!(2026-10-24 22:00 UTC));
        assert_eq!(berlin.start_of(MeterWindow::Month, at), datetime!(2026-09-30 22:00 UTC));
        assert_eq!(berlin.start_of_date(date!(2026 - 10 - 26)), Some(Ok(datetime!(2026-10-25 23:00 UTC))));
        let kathmandu = zone("Asia/Kathmandu");
        assert_eq!(kathmandu.start_of(MeterWindow::Hour, at), datetime!(2026-10-25 11:15 UTC));
        assert_eq!(kathmandu.start_of_date(date!(2026 - 10 - 26)), Some(Ok(datetime!(2026-10-25 18:15 UTC))));
        assert_eq!(berlin.local(at).offset(), UtcOffset::from_hms(1, 0, 0).unwrap());
    }

    #[test]
    fn a_zone_is_found_by_its_name_alone() {
        assert_eq!(zone("europe/berlin").name(), "Europe/Berlin");
        for name in ["", "Nowhere/City", "+02:00", "CET-1CEST", "../etc/passwd"] {
            assert!(MeterZone::find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_period_has_a_bounded_number_of_windows_and_days() {
        let utc = zone(MeterZone::UTC);
        let from = datetime!(2026-01-01 0:30 UTC);
        let check = |to, window| utc.check_period(from, to, window);
        let (minute, hour) = (Some(MeterWindow::Minute), Some(MeterWindow::Hour));
        assert_eq!(check(datetime!(2026-01-02 9:45 UTC), minute), Ok(()));
        assert_eq!(check(datetime!(2026-01-02 10:00 UTC), minute), Err(MeterPeriodError::TooManyWindows));
        assert_eq!(check(datetime!(2026-03-25 08:00 UTC), hour), Ok(()));
        assert_eq!(check(datetime!(2026-03-25 08:15 UTC), hour), Err(MeterPeriodError::TooManyWindows));
        assert_eq!(check(datetime!(2031-06-24 0:00 UTC), Some(MeterWindow::Day)), Ok(()));
        assert_eq!(
            check(datetime!(2031-06-24 0:15 UTC), Some(MeterWindow::Day)),
            Err(MeterPeriodError::TooManyWindows)
        );
        assert_eq!(check(from, None), Err(MeterPeriodError::Empty));
        assert_eq!(check(datetime!(2036-01-01 0:00 UTC), Some(MeterWindow::Month)), Ok(()));
        assert_eq!(check(datetime!(2037-01-01 0:00 UTC), None), Err(MeterPeriodError::TooLong));
    }

    #[test]
    fn the_earliest_start_is_the_start_of_a_window_of_a_period_that_is_answered() {
        let window_starts =
            |window, start: OffsetDateTime, zone: &MeterZone| zone.start_of(window, start) == start;
        for name in ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Apia", "America/St_Johns"] {
            let zone = zone(name);
            for quarter in 0..2_000 {
                let to = datetime!(2026-03-01 0:00 UTC) + Duration::minutes(15 * 37 * quarter);
                for window in
                    [None, Some(MeterWindow::Hour), Some(MeterWindow::Day), Some(MeterWindow::Month)]
                {
                    let start = zone.earliest_start(to, window);
                    assert_eq!(zone.check_period(start, to, window), Ok(()), "{name} {to} {window:?}");
                    let window = window.filter(|window| *window != MeterWindow::Month);
                    assert!(window.is_none_or(|window| window_starts(window, start, &zone)), "{name} {to}");
                }
            }
        }
    }
}
