//! API keys and signing secrets: how they are generated and compared. A key or secret must never be logged.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The prefix of every generated key, so that secret scanners can find a leaked one.
pub const KEY_PREFIX: &str = "mk_";
/// The prefix of every admin key. No other key can have it, so that no admin key is sent to the store to look
/// for it without need.
pub const ADMIN_KEY_PREFIX: &str = "mka_";
/// The prefix of a signing secret, as Standard Webhooks defines it.
pub const SECRET_PREFIX: &str = "whsec_";
/// The member of a body, and the parameter of a query or a form, in which SDKs send a key that they do not
/// send as `Authorization`. Its value is never stored.
pub const KEY_MEMBER: &str = "writeKey";
/// Allowed lengths of a key that an operator chooses, in bytes.
pub const CHOSEN_KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=200;

/// Generates a key with 256 random bits.
pub fn random_key() -> String {
    format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// Generates an admin key with 256 random bits.
pub fn random_admin_key() -> String {
    format!("{ADMIN_KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// Generates a signing secret with 256 random bits.
pub fn random_secret() -> [u8; 32] {
    rand::random()
}

/// Formats a signing secret as clients configure it: `whsec_` and base64.
pub fn show_secret(secret: &[u8]) -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(secret))
}

/// The hash that is stored instead of the key. A generated key has 256 random bits, so a fast hash is as safe
/// as a slow one.
pub fn hash_key(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// Compares two key hashes in constant time.
pub fn same_hash(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}

/// Checks a key that an operator chose.
///
/// # Errors
/// A message that says what is wrong with the key.
pub fn check_chosen_key(key: &str) -> Result<(), String> {
    if !CHOSEN_KEY_BYTES.contains(&key.len()) {
        let (least, most) = (CHOSEN_KEY_BYTES.start(), CHOSEN_KEY_BYTES.end());
        return Err(format!("a key must have {least} to {most} characters, this one has {}", key.len()));
    }
    if key.starts_with(ADMIN_KEY_PREFIX) {
        return Err(format!(
            "a key that begins with {ADMIN_KEY_PREFIX} is an admin key; choose another beginning"
        ));
    }
    check_characters(key)
}

/// Least length of an admin key that an operator chooses, in bytes: it manages the whole installation.
const CHOSEN_ADMIN_KEY_BYTES_MIN: usize = 32;

/// Checks an admin key that an operator chose.
///
/// # Errors
/// A message that says what is wrong with the key.
pub fn check_chosen_admin_key(key: &str) -> Result<(), String> {
    let most = CHOSEN_KEY_BYTES.end();
    if !(CHOSEN_ADMIN_KEY_BYTES_MIN..=*most).contains(&key.len()) || !key.starts_with(ADMIN_KEY_PREFIX) {
        return Err(format!(
            "an admin key begins with {ADMIN_KEY_PREFIX} and has {CHOSEN_ADMIN_KEY_BYTES_MIN} to {most} characters"
        ));
    }
    check_characters(key)
}

fn check_characters(key: &str) -> Result<(), String> {
    if !key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
        return Err("a key must consist of visible ASCII characters other than the colon".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_key_has_a_bounded_length_and_no_character_that_a_header_cannot_carry() {
        for good in ["0123456789abcdef", &"k".repeat(200), "shop/2026+test=!"] {
            assert_eq!(check_chosen_key(good), Ok(()), "{good}");
        }
        for bad in [
            "0123456789abcde",
            &"k".repeat(201),
            "0123456789 abcdef",
            "user:password:0123",
            "schlüssel-0123456",
        ] {
            assert!(check_chosen_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn generated_keys_differ_and_pass_the_check_of_chosen_keys() {
        let (one, other) = (random_key(), random_key());
        assert_ne!(one, other);
        assert!(one.starts_with(KEY_PREFIX));
        assert_eq!(check_chosen_key(&one), Ok(()));
        assert!(same_hash(&hash_key(&one), &hash_key(&one)));
        assert!(!same_hash(&hash_key(&one), &hash_key(&other)));
        assert_eq!(show_secret(b"\x00\xff"), "whsec_AP8=");
    }
}
