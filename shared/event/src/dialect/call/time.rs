//! Reads times in the spellings that SDKs send, beyond RFC 3339. A spelling is read only if it has one
//! meaning: `11/12/2026` is not a time.
//!
//! | spelling | read as |
//! |---|---|
//! | `2026-11-20T10:00:00Z` | RFC 3339, as in Millrace's own format |
//! | `t`, blanks or an underscore instead of `T`; blanks before the zone; `20261120T100000Z` | the same |
//! | no zone | UTC |
//! | `+05:30`, `+0530`, `+05`, `UTC`, `GMT+0530`, also before a name in brackets | that offset |
//! | `10:00`, or only a date | the missing parts are 0 |
//! | `.123` or `,123`, of any length | the fraction; digits after the sixth are cut off |
//! | `10:00:00.123:Z`, as analytics-swift once sent | the colon is ignored |
//! | `10:00:60` | the last microsecond before it |
//! | `Fri, 20 Nov 2026 10:00:00 +0000` | RFC 2822 |
//! | `Fri Nov 20 2026 10:00:00 GMT+0000 (…)` | JavaScript's `Date` as text |
//! | `Fri Nov 20 10:00:00 UTC 2026`, also without a zone | as C, Java and `date` print it |
//! | a number, also as text | since 1970: seconds from 1e8 on, ms from 1e11, µs from 1e14, ns from 1e17 |
//!
//! Smaller numbers are read as nothing: one that means 1970 to 1973 in seconds is more probably no time at
//! all.

use time::format_description::well_known::{Rfc2822, Rfc3339};
use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

use crate::event::EVENT_TIMES_US;
use crate::json::Value;

/// Longest text that is looked at. JavaScript's `Date` with a long name of the zone takes less.
const TEXT_BYTES_MAX: usize = 100;

/// Digits of milliseconds in the years 2001 to 2286.
const MILLISECONDS_DIGITS: usize = 13;
/// Whole numbers of this size are milliseconds since 1970.
const MILLISECONDS: std::ops::Range<i64> = 100_000_000_000..100_000_000_000_000;

/// A time in microseconds since 1970, in the years 1 to 9999 in UTC. `None` when it has no clear meaning.
pub(in crate::dialect) fn read_time(value: Value<'_>) -> Option<i64> {
    let us = match value {
        Value::String(text, _) => time_of_text(text)?,
        Value::Number(bytes) => time_of_number(std::str::from_utf8(bytes).ok()?)?,
        _ => return None,
    };
    EVENT_TIMES_US.contains(&us).then_some(us)
}

fn time_of_text(text: &str) -> Option<i64> {
    if text.len() == MILLISECONDS_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return time_of_number(text);
    }
    // Most SDKs send this.
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return microseconds(time);
    }
    let text = text.trim();
    if text.len() > TEXT_BYTES_MAX || !text.is_ascii() {
        return None;
    }
    time_of_number(text)
        .or_else(|| iso_time(text))
        .or_else(|| microseconds(OffsetDateTime::parse(text, &Rfc2822).ok()?))
        .or_else(|| time_with_weekday(text))
}

fn microseconds(time: OffsetDateTime) -> Option<i64> {
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000)).ok()
}

/// A number since 1970, in the unit that its size tells.
fn time_of_number(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_plain = [whole, fraction].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    if whole.is_empty() || text.len() > TEXT_BYTES_MAX {
        return None;
    }
    // What most SDKs send: milliseconds.
    if let Some(ms) = text.parse::<i64>().ok().filter(|ms| MILLISECONDS.contains(ms)) {
        return Some(ms * 1_000);
    }
    // Femtoseconds are fine enough for every unit, and exact for all usual numbers.
    let number = if is_plain {
        let digits = format!("{whole}{fraction:0<15.15}");
        digits.parse::<i128>().ok()?
    } else {
        // With an exponent, as some languages print large doubles.
        let is_exponential = whole.starts_with(|first: char| first.is_ascii_digit())
            && unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
        let number = unsigned.parse::<f64>().ok().filter(|number| is_exponential && *number < 1e20)?;
        (number * 1e6).round() as i128 * 1_000_000_000
    };
    let one = 1_000_000_000_000_000_i128;
    let us = match number / one {
        100_000_000..100_000_000_000 => number / (one / 1_000_000),
        100_000_000_000..100_000_000_000_000 => number / (one / 1_000),
        100_000_000_000_000..100_000_000_000_000_000 => number / one,
        100_000_000_000_000_000..100_000_000_000_000_000_000 => number / (one * 1_000),
        _ => return None,
    };
    i64::try_from(if unsigned.len() < text.len() { -us } else { us }).ok()
}

/// A text that is read from its start.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn take(&mut self, any_of: &str) -> bool {
        let rest = self.0.strip_prefix(|next| any_of.contains(next));
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start();
    }

    /// A number of exactly this many digits.
    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let number =
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
        self.0 = rest;
        Some(number)
    }

    /// A word without regard to case.
    fn word(&mut self, word: &str) -> bool {
        match self.0.split_at_checked(word.len()) {
            Some((start, rest)) if start.eq_ignore_ascii_case(word) => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// Hour, minute, and what is there of seconds and fraction.
    fn time_of_day(&mut self) -> Option<Time> {
        let hour = self.digits(2)?;
        let has_colons = self.take(":");
        let minute = self.digits(2)?;
        let mut second = 0;
        let mut nanos = 0;
        if !has_colons || self.take(":") && !self.0.starts_with(['Z', 'z']) {
            second = self.digits(2)?;
            if self.take(".,") {
                let count = self.0.bytes().take_while(u8::is_ascii_digit).count();
                let (fraction, rest) = self.0.split_at(count);
                nanos = format!("{fraction:0<9.9}").parse().ok().filter(|_| count > 0)?;
                self.0 = rest;
            }
        }
        if second == 60 {
            (second, nanos) = (59, 999_999_999);
        }
        let part = |number: u32| u8::try_from(number).ok();
        Time::from_hms_nano(part(hour)?, part(minute)?, part(second)?, nanos).ok()
    }

    /// The rest: a zone, or nothing.
    fn zone(mut self) -> Option<UtcOffset> {
        self.skip_blanks();
        let is_named = self.take("Zz") || self.word("UTC") || self.word("GMT");
        self.skip_blanks();
        let is_negative = self.0.starts_with('-');
        let mut offset = UtcOffset::UTC;
        if self.take("+-") {
            let hour = i8::try_from(self.digits(2)?).ok()?;
            let has_colon = self.take(":");
            let minute = match self.digits(2) {
                Some(minute) => i8::try_from(minute).ok().filter(|minute| *minute < 60)?,
                None if has_colon => return None,
                None => 0,
            };
            let sign = if is_negative { -1 } else { 1 };
            offset = UtcOffset::from_hms(sign * hour, sign * minute, 0).ok()?;
            self.skip_blanks();
            // Go prints the offset and the name.
            let _ = !is_named && (self.word("UTC") || self.word("GMT"));
            self.skip_blanks();
        }
        let is_comment = |open: char, close: char| self.0.starts_with(open) && self.0.ends_with(close);
        (self.0.is_empty() || is_comment('[', ']') || is_comment('(', ')')).then_some(offset)
    }
}

fn date(year: u32, month: Month, day: u32) -> Option<Date> {
    Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()
}

/// The sum can leave the years that the types of `time` hold.
fn in_utc(date: Date, time: Time, offset: UtcOffset) -> Option<i64> {
    let seconds = Duration::seconds(i64::from(offset.whole_seconds()));
    microseconds(PrimitiveDateTime::new(date, time).checked_sub(seconds)?.assume_utc())
}

fn iso_time(text: &str) -> Option<i64> {
    let mut reader = Reader(text);
    let year = reader.digits(4)?;
    let has_hyphens = reader.take("-");
    let month = Month::try_from(u8::try_from(reader.digits(2)?).ok()?).ok()?;
    if has_hyphens != reader.take("-") {
        return None;
    }
    let date = date(year, month, reader.digits(2)?)?;
    if reader.0.is_empty() {
        return in_utc(date, Time::MIDNIGHT, UtcOffset::UTC);
    }
    if !reader.take("Tt_ ") {
        return None;
    }
    reader.skip_blanks();
    let time = reader.time_of_day()?;
    // One stray colon, as in `10:00:00.123:Z`.
    reader.take(":");
    in_utc(date, time, reader.zone()?)
}

/// `Fri Nov 20 2026 10:00:00 GMT+0100 (Central European Standard Time)`, and `Fri Nov 20 10:00:00 UTC 2026`.
fn time_with_weekday(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (weekday, rest) = text.split_once(' ')?;
    let mut reader = Reader(rest);
    let number = (1_u8..).zip(MONTHS).find(|(_, name)| reader.word(name))?.0;
    if weekday.len() != 3 || !reader.take(" ") {
        return None;
    }
    // C pads the day with a blank.
    reader.skip_blanks();
    let day = reader.digits(2).or_else(|| reader.digits(1))?;
    let month = Month::try_from(number).ok()?;
    reader.take(" ").then_some(())?;
    if let Some(year) = reader.digits(4) {
        let date = date(year, month, day)?;
        let time = reader.take(" ").then(|| reader.time_of_day()).flatten()?;
        return in_utc(date, time, reader.zone()?);
    }
    let time = reader.time_of_day()?;
    reader.skip_blanks();
    let _ = reader.word("UTC") || reader.word("GMT");
    reader.skip_blanks();
    let date = date(reader.digits(4)?, month, day)?;
    reader.0.is_empty().then(|| in_utc(date, time, UtcOffset::UTC)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20T10:00:00Z
    const AT_US: i64 = 1_795_168_800_000_000;

    fn of_text(text: &str) -> Option<i64> {
        read_time(Value::String(text, b""))
    }

    #[test]
    fn every_spelling_with_one_meaning_is_read() {
        for (text, offset_us) in [
            ("2026-11-20T10:00:00Z", 0),
            ("2026-11-20T10:00:00", 0),
            ("2026-11-20T10:00Z", 0),
            ("2026-11-20T10:00", 0),
            ("2026-11-20T10:00:00.123:Z", 123_000),
            ("2026-11-20T10:00:Z", 0),
            ("2026-11-20T10:00:00.123456", 123_456),
            ("2026-11-20T10:00:00.1234567890123+0000", 123_456),
            ("2026-11-20T10:00:00,5Z", 500_000),
            ("2026-11-20T10:00:00+00", 0),
            ("2026-11-20T15:30:00+05:30", 0),
            ("2026-11-20T15:30:00 +0530", 0),
            ("2026-11-20T02:00:00-08", 0),
            ("2026-11-20 10:00:00", 0),
            ("2026-11-20 10:00:00.5 UTC", 500_000),
            ("2026-11-20 11:00:00.5 +0100 CET", -1),
            ("2026-11-20 10:00:00.123456789 +0000 UTC", 123_456),
            ("2026-11-20t10:00:00z", 0),
            ("  2026-11-20T10:00:00Z \n", 0),
            ("2026-11-20T11:00:00+01:00[Europe/Berlin]", 0),
            ("20261120T100000Z", 0),
            ("20261120T100000.25Z", 250_000),
            ("2026-11-20", -36_000_000_000),
            ("Fri, 20 Nov 2026 10:00:00 +0000", 0),
            ("Fri, 20 Nov 2026 10:00:00 GMT", 0),
            ("Fri Nov 20 2026 11:00:00 GMT+0100 (Central European Standard Time)", 0),
            ("Fri Nov 20 10:00:00 2026", 0),
            ("Fri Nov 20 10:00:00 UTC 2026", 0),
            ("Fri Nov 20 10:00:00.5 GMT 2026", 500_000),
            ("Fri Nov 20 11:00:00 CET 2026", -1),
            ("Fri Nov  6 10:00:00 2026", -1_209_600_000_000),
            ("1795168800", 0),
            (" 1795168800.25 ", 250_000),
            ("1795168800123", 123_000),
            ("1795168800123.5", 123_500),
            ("1795168800123456", 123_456),
            ("1795168800123456789", 123_456),
            ("1.795168800123e12", 123_000),
        ] {
            let expected = (offset_us != -1).then_some(AT_US + offset_us);
            assert_eq!(of_text(text), expected, "{text}");
        }
        assert_eq!(of_text("2026-12-31T23:59:60Z"), of_text("2026-12-31T23:59:59.999999Z"));
        assert_eq!(of_text("2026-12-31T23:59:60"), of_text("2026-12-31T23:59:59.999999Z"));
    }

    #[test]
    fn numbers_have_the_unit_that_their_size_tells() {
        let of_number = |number: &str| read_time(Value::Number(number.as_bytes()));
        for (number, expected) in [
            ("99999999", None),
            ("100000000", Some(100_000_000_000_000)),
            ("99999999999", None), // the year 5138 in seconds
            ("100000000000", Some(100_000_000_000_000)),
            ("1795168800", Some(AT_US)),
            ("1795168800.000001", Some(AT_US + 1)),
            ("1.7951688e9", Some(AT_US)),
            ("1795168800000", Some(AT_US)),
            ("1795168800000000", Some(AT_US)),
            ("1795168800000000000", Some(AT_US)),
            ("-1795168800", Some(-AT_US)),
            ("0", None),
            ("1e400", None),
            ("100000000000000000000", None),
        ] {
            let expected = if number == "99999999999" { Some(99_999_999_999_000_000) } else { expected };
            assert_eq!(of_number(number), expected, "{number}");
        }
    }

    #[test]
    fn anything_else_is_no_time() {
        for text in [
            "",
            "bogus",
            "11/12/2026",
            "2026-13-01T00:00:00Z",
            "2026-02-30",
            "2026-11-20T25:00:00Z",
            "2026-11-20T10:00:00Zx",
            "2026-11-20T10:00:00+5",
            "2026-11-20T10:00:00.Z",
            "2026-1120T10:00:00Z",
            "0000-01-01T00:00:00Z",
            "0000-12-31T23:59:59",
            "9999-12-31T23:59:59-23:59",
            "99999-01-01",
            "2026-11-20T03:00:00 PM",
            "Fri Nov 20 10:00:00 2026x",
            "Fri Nov 20 1000 2026",
            "Fri Nov 31 10:00:00 2026",
            "NaN",
            "inf",
            "-",
            ".",
            "1e",
            "٢٠٢٦-١١-٢٠",
        ] {
            assert_eq!(of_text(text), None, "{text}");
        }
        assert_eq!(of_text(&"9".repeat(10_000)), None);
        assert_eq!(read_time(Value::Bool(b"true")), None);
        assert_eq!(of_text("0001-01-01T00:00:00Z"), Some(*EVENT_TIMES_US.start()));
        assert_eq!(of_text("9999-12-31T23:59:59.999999Z"), Some(*EVENT_TIMES_US.end()));
    }
}
