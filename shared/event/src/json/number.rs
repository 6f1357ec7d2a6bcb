//! Limits of numbers. PostgreSQL writes a jsonb number out in full, so the exponent costs space as well as
//! the digits. The parser refuses a number beyond the range of a double; smaller ones than it can express are
//! kept with all their digits.

use super::fault::Unstorable;
use crate::event::{NUMBER_DIGITS_MAX, NUMBER_EXPONENT_MAX, NUMBER_LENGTH_MAX};

/// Checks the digits and the exponent of a number whose grammar the parser has checked. Returns its absolute
/// exponent, which is about the number of digits it gains when PostgreSQL writes it out.
pub(crate) fn check_number(token: &[u8]) -> Result<u32, Unstorable> {
    let mut parts = token.splitn(2, |byte| byte | 0x20 == b'e');
    let mantissa = parts.next().unwrap_or_default();
    let digits = mantissa.iter().filter(|byte| byte.is_ascii_digit()).count();
    // Saturates far beyond the limit, so that a long exponent cannot overflow into a small one.
    let exponent = parts.next().unwrap_or_default().iter().filter(|byte| byte.is_ascii_digit());
    let exponent = exponent.fold(0_u32, |sum, digit| (sum * 10 + u32::from(digit - b'0')).min(1_000_000));
    let too_long = digits > NUMBER_DIGITS_MAX && is_too_long(mantissa, digits);
    if too_long || exponent > NUMBER_EXPONENT_MAX { Err(Unstorable::Number) } else { Ok(exponent) }
}

/// Whether a number has too many digits although the zeros at its ends count less.
#[cold]
fn is_too_long(mantissa: &[u8], digits: usize) -> bool {
    let is_significant = |byte: &u8| matches!(byte, b'1'..=b'9');
    let first = mantissa.iter().position(is_significant).unwrap_or(mantissa.len());
    let end = mantissa.iter().rposition(is_significant).map_or(first, |last| last + 1);
    let significant = mantissa[first..end].iter().filter(|byte| byte.is_ascii_digit()).count();
    significant > NUMBER_DIGITS_MAX || digits > NUMBER_LENGTH_MAX
}
