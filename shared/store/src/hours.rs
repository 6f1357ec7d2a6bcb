//! Full hours in UTC, the unit by which usage is kept. A period of usage must begin and end at one, so that
//! periods next to each other never count an event twice. Pure.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

/// A time that is not at a full hour UTC, and so cannot limit a period of usage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("must be at a full hour UTC: use {} or {}", shown(.before), shown(.after))]
pub struct PartOfHour {
    /// The last full hour before it, with the offset of the time.
    pub before: OffsetDateTime,
    /// The first full hour after it, with the offset of the time.
    pub after: OffsetDateTime,
}

/// The time itself, in UTC, if it is at a full hour in UTC. With an offset such as +05:30 this is half past
/// an hour of local time.
///
/// # Errors
/// [`PartOfHour`] with the two nearest full hours.
pub fn full_hour(time: OffsetDateTime) -> Result<OffsetDateTime, PartOfHour> {
    let utc = time.to_offset(UtcOffset::UTC);
    let before = utc.truncate_to_hour();
    if before == utc {
        return Ok(utc);
    }
    let after = before + Duration::HOUR;
    Err(PartOfHour { before: before.to_offset(time.offset()), after: after.to_offset(time.offset()) })
}

/// The end of the hour (UTC) that contains this time: the first full hour after it.
pub fn end_of_hour(time: OffsetDateTime) -> OffsetDateTime {
    time.to_offset(UtcOffset::UTC).truncate_to_hour() + Duration::HOUR
}

fn shown(time: &OffsetDateTime) -> String {
    // Without RFC 3339's form (a year beyond 9999) the form of `time` says the same.
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_full_hour_in_utc_is_kept_in_any_offset() {
        for (time, utc) in [
            (datetime!(2026-11-26 19:00 UTC), datetime!(2026-11-26 19:00 UTC)),
            (datetime!(2026-11-26 00:30 +05:30), datetime!(2026-11-25 19:00 UTC)),
            (datetime!(2026-11-26 00:45 +05:45), datetime!(2026-11-25 19:00 UTC)),
            (datetime!(2026-11-26 00:30 -03:30), datetime!(2026-11-26 04:00 UTC)),
            (datetime!(2026-11-26 00:15 -00:45), datetime!(2026-11-26 01:00 UTC)),
        ] {
            assert_eq!(full_hour(time).map(|hour| (hour, hour.offset())), Ok((utc, UtcOffset::UTC)));
        }
    }

    #[test]
    fn any_other_time_is_refused_with_the_two_nearest_in_its_own_offset() {
        for (time, advice) in [
            (datetime!(2026-11-26 19:19 UTC), "2026-11-26T19:00:00Z or 2026-11-26T20:00:00Z"),
            (datetime!(2026-12-31 23:59:59.999 UTC), "2026-12-31T23:00:00Z or 2027-01-01T00:00:00Z"),
            (datetime!(2026-11-26 00:00 +05:30), "2026-11-25T23:30:00+05:30 or 2026-11-26T00:30:00+05:30"),
            (datetime!(2026-11-26 00:00 +05:45), "2026-11-25T23:45:00+05:45 or 2026-11-26T00:45:00+05:45"),
            (datetime!(2026-11-26 00:00 -03:30), "2026-11-25T23:30:00-03:30 or 2026-11-26T00:30:00-03:30"),
            (datetime!(2026-11-26 19:00:00.000001 UTC), "2026-11-26T19:00:00Z or 2026-11-26T20:00:00Z"),
        ] {
            let refused = full_hour(time).unwrap_err();
            assert_eq!(refused.to_string(), format!("must be at a full hour UTC: use {advice}"));
            assert!(full_hour(refused.before).is_ok() && full_hour(refused.after).is_ok());
        }
    }

    #[test]
    fn an_hour_ends_after_every_time_in_it() {
        let end = datetime!(2026-11-26 20:00 UTC);
        assert_eq!(end_of_hour(datetime!(2026-11-26 19:00 UTC)), end);
        assert_eq!(end_of_hour(datetime!(2026-11-26 19:59:59.999 UTC)), end);
    }
}
