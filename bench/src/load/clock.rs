//! Times as events carry them: RFC 3339 in UTC with microseconds, always of the same length, so that a new one can be
//! written over an old one.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Bytes of a time: `2026-11-21T08:00:00.000001Z`.
pub const TIME_BYTES: usize = 27;
const DAY_US: i64 = 86_400_000_000;
const DATE_BYTES: usize = "2026-11-21T".len();

/// Microseconds since 1970.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_micros()).expect("it is not the year 294247")
}

/// Writes times; remembers the day, which seldom changes.
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
            self.turn_to(day);
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

    fn turn_to(&mut self, day: i64) {
        let date = OffsetDateTime::from_unix_timestamp(day * 86_400).expect("a day of this century").date();
        let text = format!("{:04}-{:02}-{:02}T", date.year(), u8::from(date.month()), date.day());
        self.date.copy_from_slice(text.as_bytes());
        self.day = day;
    }
}

/// Writes a number with as many digits as there is room for.
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
    fn a_time_reads_back_as_the_microsecond_it_was_written_from() {
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
