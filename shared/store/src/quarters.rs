//! Quarters of an hour, the unit by which figures of meters are kept. A period of figures must begin and end
//! at one, so that periods next to each other never count an event twice. Pure.
//!
//! Every time zone of today is a whole number of quarters away from UTC, so a day begins at one everywhere.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

const QUARTER_S: i64 = 900;

/// A time that is not at a quarter of an hour, and so cannot limit a period of figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "must be at a quarter of an hour, because figures are kept by the quarter: use {} or {}",
    shown(.before),
    shown(.after)
)]
pub struct PartOfQuarter {
    /// The last full quarter before it, with the offset of the time.
    pub before: OffsetDateTime,
    /// The first full quarter after it, with the offset of the time.
    pub after: OffsetDateTime,
}

/// The time itself, in UTC, if it is at a quarter of an hour. The time must be in the years 1 to 9998, so
/// that it has both neighbors.
///
/// # Errors
/// [`PartOfQuarter`] with the two nearest quarters.
pub fn full_quarter(time: OffsetDateTime) -> Result<OffsetDateTime, PartOfQuarter> {
    let (before, utc) = (start_of_quarter(time), time.to_offset(UtcOffset::UTC));
    if before == utc {
        return Ok(utc);
    }
    let after = before + Duration::seconds(QUARTER_S);
    Err(PartOfQuarter { before: before.to_offset(time.offset()), after: after.to_offset(time.offset()) })
}

/// The end of the quarter that contains this time: the first full quarter after it.
pub fn end_of_quarter(time: OffsetDateTime) -> OffsetDateTime {
    start_of_quarter(time) + Duration::seconds(QUARTER_S)
}

fn start_of_quarter(time: OffsetDateTime) -> OffsetDateTime {
    let utc = time.to_offset(UtcOffset::UTC);
    let part_s = utc.unix_timestamp().rem_euclid(QUARTER_S);
    utc - Duration::seconds(part_s) - Duration::nanoseconds(utc.nanosecond().into())
}

fn shown(time: &OffsetDateTime) -> String {
    time.format(&Rfc3339).expect("the years are four digits")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_quarter_of_an_hour_is_kept_in_any_offset() {
        for (time, utc) in [
            (datetime!(2026-11-26 19:15 UTC), datetime!(2026-11-26 19:15 UTC)),
            (datetime!(2026-11-26 00:00 +05:45), datetime!(2026-11-25 18:15 UTC)),
            (datetime!(1969-12-31 23:45 UTC), datetime!(1969-12-31 23:45 UTC)),
        ] {
            assert_eq!(
                full_quarter(time).map(|quarter| (quarter, quarter.offset())),
                Ok((utc, UtcOffset::UTC))
            );
        }
    }

    #[test]
    fn another_time_is_refused_with_the_nearest_quarters_in_its_offset() {
        let refused = full_quarter(datetime!(2026-11-26 19:14:59.5 +05:30)).unwrap_err().to_string();
        assert!(refused.ends_with("use 2026-11-26T19:00:00+05:30 or 2026-11-26T19:15:00+05:30"), "{refused}");
        assert!(full_quarter(datetime!(1969-12-31 23:59:59.999999999 UTC)).is_err());
        assert!(full_quarter(datetime!(2026-11-26 19:15:00.000000001 UTC)).is_err());
    }

    #[test]
    fn a_quarter_ends_after_every_time_in_it() {
        for (time, end) in [
            (datetime!(2026-11-26 19:15 UTC), datetime!(2026-11-26 19:30 UTC)),
            (datetime!(2026-11-26 19:29:59.999 UTC), datetime!(2026-11-26 19:30 UTC)),
        ] {
            assert_eq!(end_of_quarter(time), end);
        }
    }
}
