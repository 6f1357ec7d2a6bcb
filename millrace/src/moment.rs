//! Moments and spans as people write them, and as they are shown. Always UTC. Pure: the time is an argument.

use std::str::FromStr;
use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, UtcOffset};

/// The years that can be asked for.
const YEARS: std::ops::RangeInclusive<i32> = 2_000..=2_999;
const EXPECTED: &str = "expected a day (2026-11-21), a moment (2026-11-21T14:00:00Z) or a span back (7d, 36h), in the \
                        years 2000 to 2999";

/// A moment, as it was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// A day's first moment, or any other.
    At(OffsetDateTime),
    /// So long before now.
    Ago(Duration),
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let day = format_description!("[year]-[month]-[day]");
        let moment = match Date::parse(text, day) {
            Ok(date) => Some(date.midnight().assume_utc()),
            Err(_) => {
                OffsetDateTime::parse(text, &Rfc3339).ok().map(|moment| moment.to_offset(UtcOffset::UTC))
            }
        };
        match moment {
            Some(moment) if YEARS.contains(&moment.year()) => Ok(Self::At(moment)),
            Some(_) => Err(EXPECTED),
            None => span(text).map(Self::Ago).map_err(|_| EXPECTED),
        }
    }
}

impl When {
    /// The moment that is meant at this one.
    ///
    /// # Errors
    /// What is expected, when it is before all years that can be asked for.
    pub(crate) fn from(self, now: OffsetDateTime) -> Result<OffsetDateTime, &'static str> {
        let ago = |span| now.checked_sub(time::Duration::try_from(span).ok()?);
        let moment = match self {
            Self::At(moment) => Some(moment),
            Self::Ago(span) => ago(span),
        };
        moment.filter(|moment| YEARS.contains(&moment.year())).ok_or(EXPECTED)
    }
}

/// A span: 30m, 24h, 7d, or 0.
///
/// # Errors
/// What is expected.
pub(crate) fn span(text: &str) -> Result<Duration, &'static str> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|_| "expected a span such as 30m, 24h or 7d")
}

/// A moment as it is printed: `2026-11-21T09:52:57Z`.
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
    fn days_moments_and_spans_back_are_understood() {
        let at = |text: &str| text.parse::<When>().and_then(|when| when.from(NOW));
        assert_eq!(at("2026-11-01"), Ok(datetime!(2026-11-01 00:00 UTC)));
        assert_eq!(at("2026-11-01T01:30:00+01:30"), Ok(datetime!(2026-11-01 00:00 UTC)));
        assert_eq!(at("7d"), Ok(datetime!(2026-11-14 14:30:05 UTC)));
        assert_eq!(at("1h 30m"), Ok(datetime!(2026-11-21 13:00:05 UTC)));
        for wrong in ["yesterday", "", "2026-13-01", "1999-12-31", "7", "-7d", "900y", "9999999999999y"] {
            assert_eq!(at(wrong), Err(EXPECTED), "{wrong}");
        }
    }

    #[test]
    fn spans_are_read_and_moments_shown_in_whole_seconds() {
        assert_eq!(span("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(span("0"), Ok(Duration::ZERO));
        assert!(span("soon").is_err() && span("24").is_err());
        assert_eq!(shown(datetime!(2026-11-21 14:30:05.75 UTC)), "2026-11-21T14:30:05Z");
    }
}
