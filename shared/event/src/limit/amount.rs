//! How much a limit allows, and how much of it an event takes.

use std::fmt;

use crate::meter::Decimal;

/// Parts of one: an amount has nine digits after the decimal point.
const ONE: u128 = 1_000_000_000;
/// What no counter reaches: amounts have at most 15 digits before the decimal point, so that both parts of an
/// amount and of a sum of two are exact in the numbers of Lua.
const UNREACHABLE: u128 = 1_000_000_000_000_000 * ONE;

/// A number that is not negative, with at most 15 digits before and 9 digits after the decimal point. A
/// larger one is kept as 10^15, which is above every limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Amount(u128);

/// Why a text is no amount of a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AmountError {
    #[error("not a number in plain notation, such as 1000000 or 12.50")]
    NotANumber,
    #[error("negative; a limit is 0 or more")]
    Negative,
    #[error("more than 15 digits before or 9 digits after the decimal point")]
    TooManyDigits,
}

impl Amount {
    pub const ZERO: Self = Self(0);
    /// One event.
    pub const ONE: Self = Self(ONE);

    /// What a value takes of a limit: rounded up in the ninth digit after the point. Nothing for a negative
    /// value, because what is admitted must not depend on the order of the events.
    pub fn of_value(value: Decimal) -> Self {
        Self(value.billionths_up().min(UNREACHABLE))
    }

    /// Reads the amount of a limit.
    ///
    /// # Errors
    /// [`AmountError`]; nothing is rounded.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        let value = Decimal::of_text(text).ok_or(AmountError::NotANumber)?;
        if value < Decimal::default() {
            return Err(AmountError::Negative);
        }
        let amount = Self::of_value(value);
        let is_exact = amount.to_string() == value.to_string();
        if is_exact && amount.0 < UNREACHABLE { Ok(amount) } else { Err(AmountError::TooManyDigits) }
    }

    /// From its parts: units, and billionths of one.
    pub fn of_parts(units: u64, billionths: u32) -> Self {
        Self((u128::from(units) * ONE + u128::from(billionths)).min(UNREACHABLE))
    }

    /// Units, and billionths of one.
    pub fn parts(self) -> (u64, u32) {
        let whole = u64::try_from(self.0 / ONE).expect("at most 10^15");
        (whole, u32::try_from(self.0 % ONE).expect("below 10^9"))
    }

    /// The sum. One that no limit allows is kept as 10^15.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self((self.0 + other.0).min(UNREACHABLE))
    }

    /// The difference, at least 0.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// In plain notation, without zeros at the end.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, billionths) = self.parts();
        if billionths == 0 {
            return write!(f, "{units}");
        }
        write!(f, "{units}.{}", format!("{billionths:09}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(token: &str) -> Amount {
        Amount::of_value(Decimal::of_number(token.as_bytes()).expect("a number"))
    }

    #[test]
    fn a_value_is_rounded_up_and_never_below_zero() {
        for (token, amount) in [
            ("0", "0"),
            ("12.50", "12.5"),
            ("0.000000001", "0.000000001"),
            ("0.000000000000000001", "0.000000001"),
            ("1.0000000001", "1.000000001"),
            ("-5", "0"),
            ("999999999999999999", "1000000000000000"),
        ] {
            assert_eq!(value(token).to_string(), amount, "{token}");
        }
    }

    #[test]
    fn a_limit_is_exact_or_refused() {
        assert_eq!(
            Amount::parse("999999999999999.999999999").unwrap().to_string(),
            "999999999999999.999999999"
        );
        assert_eq!(Amount::parse("12.50").unwrap(), Amount::of_parts(12, 500_000_000));
        for (text, error) in [
            ("1e6", AmountError::NotANumber),
            ("-1", AmountError::Negative),
            ("1000000000000000", AmountError::TooManyDigits),
            ("0.0000000001", AmountError::TooManyDigits),
        ] {
            assert_eq!(Amount::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn sums_stop_above_every_limit() {
        let most = Amount::of_parts(u64::MAX, 0);
        assert_eq!(most.plus(Amount::ONE), most);
        assert!(most > Amount::parse("999999999999999.999999999").unwrap());
        assert_eq!(Amount::ONE.minus(most), Amount::ZERO);
    }
}
