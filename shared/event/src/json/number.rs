//! Limits of numbers. PostgreSQL writes a jsonb number out in full, so the exponent costs space as well as
//! the digits.

use super::fault::Unstorable;
use crate::event::{NUMBER_DIGITS_MAX, NUMBER_EXPONENT_MAX};

/// Checks the digits and the exponent of a number whose grammar the parser has checked. Returns its absolute
/// exponent, which is about the number of digits it gains when PostgreSQL writes it out.
pub(super) fn check_number(token: &[u8]) -> Result<u32, Unstorable> {
    let mut parts = token.splitn(2, |byte| byte | 0x20 == b'e');
    let digits = parts.next().unwrap_or_default().iter().filter(|byte| byte.is_ascii_digit()).count();
    // Saturates far beyond the limit, so that a long exponent cannot overflow into a small one.
    let exponent = parts.next().unwrap_or_default().iter().filter(|byte| byte.is_ascii_digit());
    let exponent = exponent.fold(0_u32, |sum, digit| (sum * 10 + u32::from(digit - b'0')).min(1_000_000));
    if digits > NUMBER_DIGITS_MAX || exponent > NUMBER_EXPONENT_MAX {
        Err(Unstorable::Number)
    } else {
        Ok(exponent)
    }
}
