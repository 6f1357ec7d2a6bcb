//! The parameters of `GET /v1/usage`. Pure: the current time is an argument.

use millrace_store::UsageWindow;
use percent_encoding::percent_decode_str;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, Duration, OffsetDateTime, Time};

/// Most windows in one answer.
const WINDOWS_MAX: i64 = 2_000;
/// Years that can be asked for.
const YEARS: std::ops::RangeInclusive<i32> = 2_000..=2_999;

/// Why the parameters are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParameterError {
    #[error("{name} must be {expected}")]
    Invalid { name: &'static str, expected: &'static str },
    #[error("{name} is given twice; send it once")]
    Twice { name: &'static str },
    #[error("the query has an unknown parameter; it takes from, to and window")]
    Unknown,
}

impl ParameterError {
    /// The name of the parameter, or `query` if it is unknown.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Invalid { name, .. } | Self::Twice { name } => name,
            Self::Unknown => "query",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsageQuery {
    /// Included. A full hour.
    pub from: OffsetDateTime,
    /// Excluded.
    pub to: OffsetDateTime,
    pub window: UsageWindow,
}

impl UsageQuery {
    /// Reads a query. Without parameters it is for this month until now, by day.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn read(query: &str, now: OffsetDateTime) -> Result<Self, ParameterError> {
        let (mut from, mut to, mut window) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (slot, name) = match name {
                "from" => (&mut from, "from"),
                "to" => (&mut to, "to"),
                "window" => (&mut window, "window"),
                _ => return Err(ParameterError::Unknown),
            };
            // A plus stays a plus: values have time zones and no spaces.
            if slot.replace(percent_decode_str(value).decode_utf8_lossy()).is_some() {
                return Err(ParameterError::Twice { name });
            }
        }
        let from = match from {
            Some(text) => moment("from", &text)?,
            None => now.replace_day(1).expect("every month has a first").replace_time(Time::MIDNIGHT),
        };
        let to = to.map_or(Ok(now), |text| moment("to", &text))?;
        let window = match window.as_deref() {
            None | Some("day") => UsageWindow::Day,
            Some("hour") => UsageWindow::Hour,
            Some("month") => UsageWindow::Month,
            Some(_) => {
                return Err(ParameterError::Invalid { name: "window", expected: "hour, day or month" });
            }
        };
        // Usage is metered by the hour. The answer shows the rounded time.
        let from = from.truncate_to_hour();
        if from >= to {
            return Err(ParameterError::Invalid { name: "from", expected: "before to" });
        }
        let width = match window {
            UsageWindow::Hour => Duration::HOUR,
            UsageWindow::Day => Duration::DAY,
            UsageWindow::Month => Duration::days(28),
        };
        if (to - from).whole_seconds() / width.whole_seconds() >= WINDOWS_MAX {
            return Err(ParameterError::Invalid { name: "from", expected: "at most 2000 windows before to" });
        }
        Ok(Self { from, to, window })
    }
}

/// `YYYY-MM-DD`, which means midnight UTC, or RFC 3339.
fn moment(name: &'static str, text: &str) -> Result<OffsetDateTime, ParameterError> {
    let expected = "YYYY-MM-DD or RFC 3339, such as 2026-11-21T14:00:00Z, in the years 2000 to 2999";
    let day = format_description!("[year]-[month]-[day]");
    let parsed = match Date::parse(text, day) {
        Ok(date) => date.midnight().assume_utc(),
        Err(_) => OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| ParameterError::Invalid { name, expected })?
            .to_offset(time::UtcOffset::UTC),
    };
    if YEARS.contains(&parsed.year()) { Ok(parsed) } else { Err(ParameterError::Invalid { name, expected }) }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 14:30:05 UTC);

    fn read(query: &str) -> Result<UsageQuery, ParameterError> {
        UsageQuery::read(query, NOW)
    }

    #[test]
    fn a_query_without_parameters_is_for_this_month_until_now_by_day() {
        let from = datetime!(2026-11-01 00:00 UTC);
        assert_eq!(read(""), Ok(UsageQuery { from, to: NOW, window: UsageWindow::Day }));
    }

    #[test]
    fn dates_and_times_are_read_with_any_offset_and_escaping() {
        let query = read("from=2026-10-01&to=2026-10-02T01%3A30%3A00%2B01:30&window=hour").unwrap();
        assert_eq!(query.from, datetime!(2026-10-01 00:00 UTC));
        assert_eq!(query.to, datetime!(2026-10-02 00:00 UTC));
        assert_eq!(query.window, UsageWindow::Hour);
        assert_eq!(read("to=2026-11-02T00:00:00+00:00").unwrap().to, datetime!(2026-11-02 00:00 UTC));
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (query, name) in [
            ("from=yesterday", "from"),
            ("from=", "from"),
            ("from=2026-13-01", "from"),
            ("from=1999-01-01", "from"),
            ("to=%ff%00", "to"),
            ("to=9999999-01-01", "to"),
            ("window=week", "window"),
            ("window=", "window"),
            ("from=2026-11-03&to=2026-11-02", "from"),
            ("from=2026-11-03&to=2026-11-03", "from"),
            ("from=2001-01-01&window=hour", "from"),
            ("from=2026-11-03&from=2026-11-03", "from"),
            ("since=2026-11-03", "query"),
        ] {
            assert_eq!(read(query).map_err(|error| error.name()), Err(name), "{query}");
        }
    }
}
