//! Periods of thresholds, in UTC.

use time::{Date, Duration, Time};

use super::super::clock::{DAY_US, micros, moment, now_us};
use crate::ThresholdPeriod;
use crate::thresholds::NOTIFICATION_DAYS;

/// Start and end of the period that has this time, in microseconds since 1970.
pub(super) fn around(period: ThresholdPeriod, us: i64) -> (i64, i64) {
    let at = moment(us);
    let (start, end) = match period {
        ThresholdPeriod::Hour => {
            let start = at.date().with_time(Time::from_hms(at.hour(), 0, 0).unwrap_or(Time::MIDNIGHT));
            (start, start.saturating_add(Duration::HOUR))
        }
        ThresholdPeriod::Day => {
            let start = at.date().midnight();
            (start, start.saturating_add(Duration::DAY))
        }
        ThresholdPeriod::Month => {
            let start = first_of(at.year(), at.month()).midnight();
            let year = at.year() + i32::from(at.month() == time::Month::December);
            (start, first_of(year, at.month().next()).midnight())
        }
    };
    (micros(start.assume_utc()), micros(end.assume_utc()))
}

fn first_of(year: i32, month: time::Month) -> Date {
    Date::from_calendar_date(year, month, 1).unwrap_or(Date::MAX)
}

/// Whether a threshold that was created then causes notifications for a period with this end.
pub(super) fn is_open(end_us: i64, created_us: i64) -> bool {
    end_us > created_us.max(now_us() - i64::from(NOTIFICATION_DAYS) * DAY_US)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;

    fn us(moment: OffsetDateTime) -> i64 {
        micros(moment)
    }

    #[test]
    fn periods_are_those_of_the_calendar() {
        let at = us(datetime!(2027-12-31 23:59:59.999999 UTC));
        let new_year = us(datetime!(2028-01-01 0:00 UTC));
        assert_eq!(around(ThresholdPeriod::Hour, at), (us(datetime!(2027-12-31 23:00 UTC)), new_year));
        assert_eq!(around(ThresholdPeriod::Day, at), (us(datetime!(2027-12-31 0:00 UTC)), new_year));
        assert_eq!(around(ThresholdPeriod::Month, at), (us(datetime!(2027-12-01 0:00 UTC)), new_year));
        let leap = us(datetime!(2028-02-29 12:00 UTC));
        let february = (us(datetime!(2028-02-01 0:00 UTC)), us(datetime!(2028-03-01 0:00 UTC)));
        assert_eq!(around(ThresholdPeriod::Month, leap), february);
        assert_eq!(around(ThresholdPeriod::Hour, -1), (-3_600_000_000, 0), "before 1970");
    }
}
