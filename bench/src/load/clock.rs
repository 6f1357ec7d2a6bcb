//! Event times as text: RFC 3339 in UTC with microseconds. The length is constant, so a new time can
//! overwrite an old one in place.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Length of a time: `2026-11-21T08:00:00.000001Z`.
pub const TIME_BYTES: usize = 27;
const DAY_US: i64 = 86_400_000_000;
const DATE_BYTES: usize = "2026-11-21T".len();

/// Microseconds since 1970.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    i64::try_from(since.as_micros()).expect("the clock is before the year 294247")
}

/// Formats times. It keeps the date of the last one, because the day seldom changes.
#[derive(Debug)]
pub struct TimeWriter {
    day: i64,
    date: [u8; DATE_BYTES],
}

impl TimeWriter {
    pub fn new() -> Self {
        Self { day: i64::MIN, date: [0; DATE_BYTES] }
    }

    /// Writes `us`, microseconds since 1970, into [`TIME_BYTES`] bytes.
    pub fn write(&mut self, us: i64, out: &mut [u8]) {
        let (day, of_day) = (us.div_euclid(DAY_US), us.rem_euclid(DAY_US));
        if day != self.day {
            self.set_day(day);
        }
        out[..DATE_BYTES].copy_from_slice(&self.date);
        let seconds = of_day / 1_000_000;
        digits(seconds / 3_600, &mut out[11..13]);
        out[13] = b':';
        digits(seconds / 60 % 60, &mut out[14..16]);
        out[16] = b':';
        digits(seconds % 60, &mut out[17..19]);
        out[19] = b'.';
        digits(of_day % 1_000_000, &mut out[20..26]);
        out[26] = b'Z';
    }

    fn set_day(&mut self, day: i64) {
        let date = OffsetDateTime::from_unix_timestamp(day * 86_400)
            .expect("the day is within the supported years")
            .date();
        let text = format!("{:04}-{:02}-{:02}T", date.year(), u8::from(date.month()), date.day());
        self.date.copy_from_slice(text.as_bytes());
        self.day = day;
    }
}

/// Writes the number in decimal, with leading zeros, into all of `out`.
fn digits(mut number: i64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use time::format_description::well_known::Rfc3339;

    use super::*;

    #[test]
    fn a_written_time_parses_to_the_same_microsecond() {
        let mut writer = TimeWriter::new();
        for us in [0, 951_782_399_999_999, 1_795_687_840_123_456, 1_795_737_600_000_000] {
            let mut out = [0; TIME_BYTES];
            writer.write(us, &mut out);
            let text = std::str::from_utf8(&out).unwrap();
            let read = OffsetDateTime::parse(text, &Rfc3339).unwrap();
            assert_eq!(read.unix_timestamp_nanos(), i128::from(us) * 1_000, "{text}");
        }
    }
}
