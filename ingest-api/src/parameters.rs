//! The parameters of `GET /v1/usage`, and what it shares with other reports. Pure: the current time is an
//! argument.
//!
//! A period is never rounded: its limits are full hours, or they are refused. A client that adds up periods
//! would otherwise count an hour twice.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use millrace_store::{PartOfHour, UsageWindow, end_of_hour, full_hour};
use percent_encoding::percent_decode_str;
use time::format_description::well_known::Rfc3339;
use time::macros::{datetime, format_description};
use time::{Date, Duration, OffsetDateTime, Time, UtcOffset};

/// Most windows in one answer.
const WINDOWS_MAX: i64 = 2_000;
/// Times that can be asked for. The last one is the end of the last year.
const TIMES: RangeInclusive<OffsetDateTime> = datetime!(2000-01-01 0:00 UTC)..=datetime!(3000-01-01 0:00 UTC);
const TIME_FORMS: &str = "YYYY-MM-DD or RFC 3339, such as 2026-11-21T14:00:00Z, in the years 2000 to 2999";

/// Why the parameters are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParameterError {
    #[error("{name} must be {expected}")]
    Invalid { name: &'static str, expected: &'static str },
    #[error("{name} {part}")]
    PartOfHour { name: &'static str, part: PartOfHour },
    #[error("{name} has a blank where its offset has a sign; write + as %2B in a query")]
    LostPlus { name: &'static str },
    #[error("from must be before to, but from is {} and to is {}", shown(*.from), shown(*.to))]
    Empty { from: OffsetDateTime, to: OffsetDateTime },
    #[error("{name} is given twice; send it once")]
    Twice { name: &'static str },
    #[error("the query has an unknown parameter; it takes {takes}")]
    Unknown { takes: &'static str },
}

impl ParameterError {
    /// The name of the parameter, or `query` if it is unknown.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Invalid { name, .. }
            | Self::PartOfHour { name, .. }
            | Self::LostPlus { name }
            | Self::Twice { name } => name,
            Self::Empty { .. } => "from",
            Self::Unknown { .. } => "query",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsageQuery {
    /// Included. A full hour, in UTC.
    pub from: OffsetDateTime,
    /// Excluded. A full hour, in UTC.
    pub to: OffsetDateTime,
    pub window: UsageWindow,
}

impl UsageQuery {
    /// Reads a query. Without parameters it is for this month until the end of this hour, by day.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn read(query: &str, now: OffsetDateTime) -> Result<Self, ParameterError> {
        let [from, to, window] = values(query, ["from", "to", "window"], "from, to and window")?;
        let from = match from {
            Some(text) => moment("from", &text)?,
            None => now.replace_day(1).expect("every month has a first").replace_time(Time::MIDNIGHT),
        };
        let to = to.map_or_else(|| Ok(end_of_hour(now)), |text| moment("to", &text))?;
        let window = match window.as_deref() {
            None | Some("day") => UsageWindow::Day,
            Some("hour") => UsageWindow::Hour,
            Some("month") => UsageWindow::Month,
            Some(_) => {
                return Err(ParameterError::Invalid { name: "window", expected: "hour, day or month" });
            }
        };
        check_order(from, to)?;
        if windows(from, to, window) > WINDOWS_MAX {
            return Err(ParameterError::Invalid { name: "from", expected: "at most 2000 windows before to" });
        }
        Ok(Self { from, to, window })
    }
}

/// The values of these parameters, each at most once. `takes` lists their names.
///
/// # Errors
/// [`ParameterError::Twice`] and [`ParameterError::Unknown`].
pub fn values<'query, const N: usize>(
    query: &'query str,
    names: [&'static str; N],
    takes: &'static str,
) -> Result<[Option<Cow<'query, str>>; N], ParameterError> {
    let mut values = [const { None }; N];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(index) = names.iter().position(|known| *known == name) else {
            return Err(ParameterError::Unknown { takes });
        };
        // A plus stays a plus: it is the sign of an offset.
        if values[index].replace(percent_decode_str(value).decode_utf8_lossy()).is_some() {
            return Err(ParameterError::Twice { name: names[index] });
        }
    }
    Ok(values)
}

/// # Errors
/// [`ParameterError::Empty`].
pub fn check_order(from: OffsetDateTime, to: OffsetDateTime) -> Result<(), ParameterError> {
    if from < to { Ok(()) } else { Err(ParameterError::Empty { from, to }) }
}

/// The number of windows that a period touches.
fn windows(from: OffsetDateTime, to: OffsetDateTime, window: UsageWindow) -> i64 {
    let last = to - Duration::HOUR;
    let month = |time: OffsetDateTime| i64::from(time.year()) * 12 + i64::from(u8::from(time.month()));
    match window {
        UsageWindow::Hour => (to - from).whole_hours(),
        UsageWindow::Day => 1 + i64::from(last.to_julian_day() - from.to_julian_day()),
        UsageWindow::Month => 1 + month(last) - month(from),
    }
}

/// A date or a time in the years that can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The start of a day, in a time zone that the reader chooses.
    Date(Date),
    /// With the offset as it was sent.
    Time(OffsetDateTime),
}

/// Reads `YYYY-MM-DD` or RFC 3339.
///
/// # Errors
/// [`ParameterError`] with this name.
pub fn date_or_time(name: &'static str, text: &str) -> Result<Moment, ParameterError> {
    let invalid = ParameterError::Invalid { name, expected: TIME_FORMS };
    let day = format_description!("[year]-[month]-[day]");
    let (moment, time) = match Date::parse(text, day) {
        Ok(date) => (Moment::Date(date), date.midnight().assume_utc()),
        Err(_) => match OffsetDateTime::parse(text, &Rfc3339) {
            Ok(time) => (Moment::Time(time), time),
            Err(_) if has_lost_its_plus(text) => return Err(ParameterError::LostPlus { name }),
            Err(_) => return Err(invalid),
        },
    };
    // Comparing does not convert: a year beyond 9999 in UTC cannot be expressed.
    if TIMES.contains(&time) { Ok(moment) } else { Err(invalid) }
}

/// `YYYY-MM-DD`, which means midnight UTC, or RFC 3339. Returns a full hour, in UTC.
///
/// # Errors
/// [`ParameterError`] with this name.
pub fn moment(name: &'static str, text: &str) -> Result<OffsetDateTime, ParameterError> {
    let time = match date_or_time(name, text)? {
        Moment::Date(date) => date.midnight().assume_utc(),
        Moment::Time(time) => time,
    };
    full_hour(time).map_err(|part| ParameterError::PartOfHour { name, part })
}

/// Whether a time has a blank in place of the sign of its offset, because something on its way decoded a plus
/// as a form does.
fn has_lost_its_plus(text: &str) -> bool {
    let Some((local, offset)) = text.rsplit_once(' ') else { return false };
    OffsetDateTime::parse(&format!("{local}+{offset}"), &Rfc3339).is_ok()
}

/// A whole number: digits alone, because `parse` would also take a sign.
pub fn whole_number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A time as an answer shows it.
pub fn shown(time: OffsetDateTime) -> String {
    let whole = time.to_offset(UtcOffset::UTC).replace_nanosecond(0).expect("0 is a nanosecond");
    whole.format(&Rfc3339).expect("the years are four digits")
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
    fn a_query_without_parameters_is_for_this_month_until_the_end_of_this_hour_by_day() {
        let (from, to) = (datetime!(2026-11-01 00:00 UTC), datetime!(2026-11-21 15:00 UTC));
        assert_eq!(read(""), Ok(UsageQuery { from, to, window: UsageWindow::Day }));
        for now in [datetime!(2026-11-21 14:00 UTC), datetime!(2026-11-21 14:59:59.999 UTC)] {
            assert_eq!(UsageQuery::read("", now).unwrap().to, to);
        }
        let first = UsageQuery::read("", datetime!(2026-12-01 00:00 UTC)).unwrap();
        assert_eq!((first.from, first.to - first.from), (datetime!(2026-12-01 00:00 UTC), Duration::HOUR));
    }

    #[test]
    fn dates_and_times_are_read_with_any_offset_and_escaping() {
        let query = read("from=2026-10-01&to=2026-10-02T01%3A30%3A00%2B01:30&window=hour").unwrap();
        assert_eq!(query.from, datetime!(2026-10-01 00:00 UTC));
        assert_eq!((query.to, query.to.offset()), (datetime!(2026-10-02 00:00 UTC), UtcOffset::UTC));
        assert_eq!(query.window, UsageWindow::Hour);
        for (text, to) in [
            ("2026-11-02T00:00:00+00:00", datetime!(2026-11-02 00:00 UTC)),
            ("2026-11-26T00:30:00+05:30", datetime!(2026-11-25 19:00 UTC)),
            ("2026-11-26T00:45:00.000%2b05:45", datetime!(2026-11-25 19:00 UTC)),
            ("2026-11-26+00:00:00+00:00", datetime!(2026-11-26 00:00 UTC)),
            ("2026-11-26%2000:00:00z", datetime!(2026-11-26 00:00 UTC)),
            ("3000-01-01", datetime!(3000-01-01 00:00 UTC)),
        ] {
            let from = if text.starts_with('3') { "2950-01-01" } else { "2026-10-01" };
            let query = read(&format!("from={from}&window=month&to={text}"));
            assert_eq!(query.map(|query| query.to), Ok(to), "{text}");
        }
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (query, name) in [
            ("from=yesterday", "from"),
            ("from=", "from"),
            ("from=2026-13-01", "from"),
            ("from=1999-01-01", "from"),
            ("from=1999-12-31T23:00:00Z", "from"),
            ("from=9999-12-31T23:59:59-23:59", "from"),
            ("from=0000-01-01T00:00:00%2B23:59", "from"),
            ("to=%ff%00", "to"),
            ("to=9999999-01-01", "to"),
            ("to=3000-01-01T01:00:00Z", "to"),
            ("window=week", "window"),
            ("window=", "window"),
            ("from=2026-11-03&to=2026-11-02", "from"),
            ("from=2026-11-03&to=2026-11-03", "from"),
            ("to=2026-10-31T23:00:00Z", "from"),
            ("from=2026-11-21T15:00:00Z", "from"),
            ("from=2001-01-01&window=hour", "from"),
            ("from=2026-11-03&from=2026-11-03", "from"),
            ("since=2026-11-03", "query"),
        ] {
            assert_eq!(read(query).map_err(|error| error.name()), Err(name), "{query}");
        }
    }

    #[test]
    fn part_of_an_hour_is_refused_with_the_nearest_full_hours_in_the_same_offset() {
        for (query, message) in [
            (
                "from=2026-11-26T19:19:00Z",
                "from must be at a full hour UTC: use 2026-11-26T19:00:00Z or 2026-11-26T20:00:00Z",
            ),
            (
                "from=2026-11-20&to=2026-11-20T19:01:00Z",
                "to must be at a full hour UTC: use 2026-11-20T19:00:00Z or 2026-11-20T20:00:00Z",
            ),
            (
                "from=2026-11-26T00:00:00+05:30",
                "from must be at a full hour UTC: use 2026-11-25T23:30:00+05:30 or 2026-11-26T00:30:00+05:30",
            ),
            (
                "to=2026-11-26T00:00:00%2B05:45",
                "to must be at a full hour UTC: use 2026-11-25T23:45:00+05:45 or 2026-11-26T00:45:00+05:45",
            ),
            (
                "to=2999-12-31T23:59:59.9Z",
                "to must be at a full hour UTC: use 2999-12-31T23:00:00Z or 3000-01-01T00:00:00Z",
            ),
        ] {
            assert_eq!(read(query).unwrap_err().to_string(), message, "{query}");
        }
    }

    #[test]
    fn an_empty_period_is_refused_with_both_its_limits() {
        let message =
            "from must be before to, but from is 2026-11-01T00:00:00Z and to is 2026-10-31T19:00:00Z";
        assert_eq!(read("to=2026-11-01T00:30:00+05:30").unwrap_err().to_string(), message);
    }

    #[test]
    fn a_plus_that_became_a_blank_is_named() {
        let message = "to has a blank where its offset has a sign; write + as %2B in a query";
        for text in
            ["2026-11-26T00:30:00%2005:30", "2026-11-26%2000:00:00%2000:00", "2026-11-26T00:00:00.5 01:00"]
        {
            assert_eq!(read(&format!("to={text}")).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn at_most_2000_windows_are_in_one_answer() {
        for (query, is_accepted) in [
            ("from=2026-01-01&to=2026-03-25T08:00:00Z&window=hour", true),
            ("from=2026-01-01&to=2026-03-25T09:00:00Z&window=hour", false),
            ("from=2020-01-01T23:00:00Z&to=2025-06-22T23:00:00Z", true),
            ("from=2020-01-01T23:00:00Z&to=2025-06-23T01:00:00Z", false),
            ("from=2000-01-01&to=2166-09-01&window=month", true),
            ("from=2000-01-01&to=2166-09-01T01:00:00Z&window=month", false),
        ] {
            assert_eq!(read(query).is_ok(), is_accepted, "{query}");
        }
    }

    #[test]
    fn a_limit_is_used_as_it_is_given_or_refused_with_two_that_are() {
        let query =
            |time: OffsetDateTime| read(&format!("from=2026-11-01&to={}", time.format(&Rfc3339).unwrap()));
        let (mut used, mut refused) = (0, 0);
        for offset_quarters in -56..=56_i32 {
            let offset = UtcOffset::from_whole_seconds(offset_quarters * 900).unwrap();
            for half_minutes in 0..=360 {
                let time = datetime!(2026-11-20 22:00 UTC) + Duration::seconds(half_minutes * 30);
                let time = time.to_offset(offset);
                match query(time) {
                    Ok(query) => {
                        assert_eq!(query.to, time);
                        used += 1;
                    }
                    Err(ParameterError::PartOfHour { name, part: PartOfHour { before, after } }) => {
                        assert_eq!((name, before.offset(), after - before), ("to", offset, Duration::HOUR));
                        assert!(before < time && time < after, "{time}");
                        assert_eq!(query(before).map(|query| query.to), Ok(before));
                        assert_eq!(query(after).map(|query| query.to), Ok(after));
                        refused += 1;
                    }
                    Err(other) => panic!("{time}: {other}"),
                }
            }
        }
        assert_eq!((used, refused), (113 * 4, 113 * 357));
    }
}
