//! Decimal numbers as texts, because SQLite has no type for them.

use std::str::FromStr;

use bigdecimal::BigDecimal;

/// A number that the store has written.
pub(super) fn decimal(text: &str) -> BigDecimal {
    BigDecimal::from_str(text).unwrap_or_default()
}
