//! Exact decimal numbers: what a meter takes as a value.

use std::fmt;

/// Digits after the decimal point.
const SCALE: usize = 18;
/// Digits before the decimal point, at most.
const WHOLE_DIGITS_MAX: usize = 18;
const ONE: i128 = 10_i128.pow(SCALE as u32);

/// A number with at most 18 digits before and 18 digits after the decimal point. A sum can have 20 before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Decimal(i128);

impl Decimal {
    /// Reads a JSON number. `None` if it has more digits than a value may have; zeros at its ends count for
    /// nothing.
    pub fn of_number(token: &[u8]) -> Option<Self> {
        let (is_negative, token) = match token.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, token),
        };
        let mut parts = token.splitn(2, |byte| byte | 0x20 == b'e');
        let mantissa = parts.next()?;
        let exponent = match parts.next() {
            None => 0,
            // Longer exponents than any validator takes do not fit, and are no value.
            Some(exponent) => std::str::from_utf8(exponent).ok()?.parse::<i32>().ok()?,
        };
        let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
        let digits = mantissa.iter().copied().filter(u8::is_ascii_digit);
        // The power of ten of the first digit.
        let mut power = i32::try_from(point).ok()?.checked_add(exponent)?.checked_sub(1)?;
        let mut value: i128 = 0;
        for digit in digits {
            if digit != b'0' {
                let place = usize::try_from(power.checked_add(SCALE as i32)?).ok()?;
                if place >= SCALE + WHOLE_DIGITS_MAX {
                    return None;
                }
                value += i128::from(digit - b'0') * 10_i128.pow(u32::try_from(place).ok()?);
            }
            power = power.checked_sub(1)?;
        }
        Some(Self(if is_negative { -value } else { value }))
    }

    /// Reads a text that is a number in plain notation, such as `12.50`: no exponent, no sign but a minus, no
    /// superfluous zero before the point. Anything else would be a guess.
    pub fn of_text(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = match unsigned.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (unsigned, None),
        };
        let are_digits = |part: &str, max: usize| {
            (1..=max).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        let is_plain = are_digits(whole, WHOLE_DIGITS_MAX)
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(|fraction| are_digits(fraction, SCALE));
        if is_plain { Self::of_number(text.as_bytes()) } else { None }
    }

    /// In billionths, rounded up; 0 for a negative number.
    pub(crate) fn billionths_up(self) -> u128 {
        const DIGITS_DROPPED: u128 = 10_u128.pow(9);
        u128::try_from(self.0).map_or(0, |value| value.div_ceil(DIGITS_DROPPED))
    }

    /// The sum, unless it has too many digits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        Self(i128::from(number) * ONE)
    }
}

/// In plain notation, without zeros at the end.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) =
            (self.0.unsigned_abs() / ONE.unsigned_abs(), self.0.unsigned_abs() % ONE.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:018}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(token: &str) -> Option<String> {
        Decimal::of_number(token.as_bytes()).map(|number| number.to_string())
    }

    #[test]
    fn a_number_is_read_exactly_however_it_is_written() {
        for (written, read) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0e5", "0"),
            ("1", "1"),
            ("-12.50", "-12.5"),
            ("1e2", "100"),
            ("1.25E+1", "12.5"),
            ("125e-3", "0.125"),
            ("0.000000000000000001", "0.000000000000000001"),
            ("999999999999999999.999999999999999999", "999999999999999999.999999999999999999"),
            ("1000000000000000000000e-20", "10"),
            ("0.10000000000000000000000000", "0.1"),
            ("0e99999", "0"),
        ] {
            assert_eq!(shown(written).as_deref(), Some(read), "{written}");
        }
    }

    #[test]
    fn a_number_with_too_many_digits_is_no_value() {
        for written in ["1e18", "1000000000000000000", "1e-19", "0.0000000000000000001", "1e99999999999"] {
            assert_eq!(shown(written), None, "{written}");
        }
    }

    #[test]
    fn a_text_is_a_number_only_in_plain_notation() {
        for (text, read) in [("12.50", Some("12.5")), ("-3", Some("-3")), ("0.1", Some("0.1"))] {
            assert_eq!(Decimal::of_text(text).map(|number| number.to_string()).as_deref(), read);
        }
        for text in ["", "-", "1e2", "+1", "01", ".5", "5.", " 1", "1,5", "0x1", "NaN", "1234567890123456789"]
        {
            assert_eq!(Decimal::of_text(text), None, "{text}");
        }
    }
}
