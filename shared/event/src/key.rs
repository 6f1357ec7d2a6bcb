//! Keys and secrets: how they are made and how they are known again. Nothing here is ever logged.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key we make begins with, so that a leaked one can be found by a scanner.
pub const KEY_PREFIX: &str = "mk_";
/// What a signing secret begins with, as Standard Webhooks writes it.
pub const SECRET_PREFIX: &str = "whsec_";
/// Shortest and longest key an operator may choose, in bytes.
pub const CHOSEN_KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=200;

/// A new key: 256 random bits.
pub fn random_key() -> String {
    format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// A new signing secret: 256 random bits.
pub fn random_secret() -> [u8; 32] {
    rand::random()
}

/// A signing secret as its user enters it.
pub fn show_secret(secret: &[u8]) -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(secret))
}

/// What is stored of a key. A key has 256 random bits, so a plain hash is as good as a slow one.
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
/// What is wrong with it.
pub fn check_chosen_key(key: &str) -> Result<(), String> {
    if !CHOSEN_KEY_BYTES.contains(&key.len()) {
        let (least, most) = (CHOSEN_KEY_BYTES.start(), CHOSEN_KEY_BYTES.end());
        return Err(format!("a key has {least} to {most} characters, this one has {}", key.len()));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
        return Err("a key is made of visible ASCII characters other than the colon".to_owned());
    }
    Ok(())
}
