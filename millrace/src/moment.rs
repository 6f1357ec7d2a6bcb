//! Reads and prints times and durations. Times are printed in UTC. Pure: the current time is an argument.

use std::str::FromStr;
use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::macros::{datetime, format_description};
use time::{Date, OffsetDateTime, UtcOffset};

/// The last one is the end of the last year.
const TIMES: std::ops::RangeInclusive<OffsetDateTime> =
    datetime!(2000-01-01 0:00 UTC)..=datetime!(3000-01-01 0:00 UTC);
const EXPECTED: &str = "expected a day (2026-11-21), a time (2026-11-21T14:00:00Z) or a duration before now (7d, 36h), in \
                        the years 2000 to 2999";

/// A time as an operator gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimeArgument {
    /// The start of a day: in UTC, unless the command has a time zone.
    Day(Date),
    /// With the offset that the operator gave.
    At(OffsetDateTime),
    /// A duration before now.
    Ago(Duration),
}

impl FromStr for TimeArgument {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let day = format_description!("[year]-[month]-[day]");
        let moment = match Date::parse(text, day) {
            Ok(date) => Some((Self::Day(date), date.midnight().assume_utc())),
            Err(_) => OffsetDateTime::parse(text, &Rfc3339).ok().map(|moment| (Self::At(moment), moment)),
        };
        match moment {
            Some((argument, moment)) if TIMES.contains(&moment) => Ok(argument),
            Some(_) => Err(EXPECTED),
            None => duration(text).map(Self::Ago).map_err(|_| EXPECTED),
        }
    }
}

impl TimeArgument {
    /// The time in UTC, when it is `now`.
    ///
    /// # Errors
    /// What is expected, when the year is out of range.
    pub(crate) fn from(self, now: OffsetDateTime) -> Result<OffsetDateTime, &'static str> {
        let before_now = |duration| now.checked_sub(time::Duration::try_from(duration).ok()?);
        let moment = match self {
            Self::Day(date) => Some(date.midnight().assume_utc()),
            Self::At(moment) => Some(moment),
            Self::Ago(duration) => before_now(duration),
        };
        let moment = moment.filter(|moment| TIMES.contains(moment)).ok_or(EXPECTED)?;
        Ok(moment.to_offset(UtcOffset::UTC))
    }
}

/// Parses a duration: 30m, 24h, 7d, or 0.
///
/// # Errors
/// What is expected.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|_| "expected a duration such as 30m, 24h or 7d")
}

/// `2026-11-21T09:52:57Z`
pub(crate) fn shown(moment: OffsetDateTime) -> String {
    let whole = moment.replace_nanosecond(0).expect("0 is a nanosecond");
    whole.format(&Rfc3339).expect("the years are four digits")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 14:30:05 UTC);

    #[test]
    fn days_times_and_durations_before_now_are_read() {
        let at = |text: &str| text.parse::<TimeArgument>().and_then(|when| when.from(NOW));
        assert_eq!(at("2026-11-01"), Ok(datetime!(2026-11-01 00:00 UTC)));
        assert_eq!(at("2026-11-01T01:30:00+01:30"), Ok(datetime!(2026-11-01 00:00 UTC)));
        assert_eq!(at("7d"), Ok(datetime!(2026-11-14 14:30:05 UTC)));
        assert_eq!(at("1h 30m"), Ok(datetime!(2026-11-21 13:00:05 UTC)));
        for wrong in [
            "yesterday",
            "",
            "2026-13-01",
            "1999-12-31",
            "3000-01-01T00:00:00-00:01",
            "9999-12-31T23:59:59-23:59",
            "0000-01-01T00:00:00+23:59",
            "7",
            "-7d",
            "900y",
            "9999999999999y",
        ] {
            assert_eq!(at(wrong), Err(EXPECTED), "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_and_times_printed_in_whole_seconds() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("soon").is_err() && duration("24").is_err());
        assert_eq!(shown(datetime!(2026-11-21 14:30:05.75 UTC)), "2026-11-21T14:30:05Z");
    }
}
