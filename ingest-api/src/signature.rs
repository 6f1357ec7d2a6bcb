//! Signed requests, as Standard Webhooks specifies them (specification 1.0, "Signature scheme"):
//! `webhook-signature` holds `v1,` and the base64 of HMAC-SHA256(secret, "{webhook-id}.{webhook-timestamp}.{body}"),
//! several separated by spaces while a secret is rotated. The body is signed as it was sent, before decompression.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use millrace_event::plan::Account;
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use time::OffsetDateTime;

/// How far the client's clock may be from ours, in seconds, either way.
pub const CLOCK_TOLERANCE_S: i64 = 300;
/// Longest `webhook-id`, in bytes; it serves as idempotency key.
const ID_BYTES_MAX: usize = millrace_event::event::IDEMPOTENCY_KEY_BYTES_MAX;
/// A shorter secret is a mistake in the table, and an empty one would let everybody sign.
const SECRET_BYTES_MIN: usize = 16;
/// Signatures that are looked at; more than one or two live secrets are never in use.
const SIGNATURES_MAX: usize = 16;

/// Why a signature proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignatureError {
    /// A header is not there, or twice.
    #[error(
        "this key demands signed requests: send webhook-id, webhook-timestamp and webhook-signature, each once"
    )]
    Missing,
    /// The id is not usable.
    #[error("webhook-id must be 1 to 255 visible ASCII characters")]
    Id,
    /// The timestamp is not a number of seconds.
    #[error("webhook-timestamp must be a whole number of seconds since 1970")]
    Timestamp,
    /// Too old, or from the future.
    #[error("webhook-timestamp is more than 300 seconds away from the server's clock")]
    Clock,
    /// No signature matches.
    #[error("no signature in webhook-signature matches the body")]
    Mismatch,
}

/// The three headers of a signed request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signed<'a> {
    /// `webhook-id`: names the message, and is the same in every retry of it.
    pub id: &'a str,
    timestamp: &'a str,
    signatures: &'a str,
}

/// Checks a request whose whole body is at hand, if its key demands a signature.
///
/// # Errors
/// [`SignatureError`].
pub fn verify_now(account: &Account, headers: &HeaderMap, body: &[u8]) -> Result<(), SignatureError> {
    if account.signing_secrets.is_empty() {
        return Ok(());
    }
    Signed::from_headers(headers)?.verify(&account.signing_secrets, body, now_s())
}

/// Seconds since 1970 on our clock.
pub fn now_s() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

impl<'a> Signed<'a> {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`SignatureError`] when one is missing or the id is not usable.
    pub fn from_headers(headers: &'a HeaderMap) -> Result<Self, SignatureError> {
        let one = |name: &str| {
            let mut values = headers.get_all(name).iter();
            match (values.next().map(|value| value.to_str()), values.next()) {
                (Some(Ok(value)), None) => Ok(value),
                _ => Err(SignatureError::Missing),
            }
        };
        let signed = Self {
            id: one("webhook-id")?,
            timestamp: one("webhook-timestamp")?,
            signatures: one("webhook-signature")?,
        };
        let visible = signed.id.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || !(1..=ID_BYTES_MAX).contains(&signed.id.len()) {
            return Err(SignatureError::Id);
        }
        Ok(signed)
    }

    /// Checks the body against any of the secrets, at `now_s` seconds since 1970.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, secrets: &[Vec<u8>], body: &[u8], now_s: i64) -> Result<(), SignatureError> {
        let timestamp: i64 = self.timestamp.parse().map_err(|_| SignatureError::Timestamp)?;
        if timestamp.abs_diff(now_s) > CLOCK_TOLERANCE_S.unsigned_abs() {
            return Err(SignatureError::Clock);
        }
        let mut matches = Choice::from(0);
        for secret in secrets.iter().filter(|secret| secret.len() >= SECRET_BYTES_MIN) {
            let expected = self.expected(secret, body);
            for signature in self.signatures.split(' ').take(SIGNATURES_MAX) {
                let encoded = signature.strip_prefix("v1,").unwrap_or_default();
                let found = STANDARD.decode(encoded).unwrap_or_default();
                matches |= expected[..].ct_eq(&found);
            }
        }
        if matches.into() { Ok(()) } else { Err(SignatureError::Mismatch) }
    }

    fn expected(&self, secret: &[u8], body: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        for part in [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the Standard Webhooks specification and its reference libraries.
    const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNED: Signed<'_> = Signed {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: "1614265330",
        signatures: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    };
    const NOW_S: i64 = 1_614_265_330;

    fn secret() -> Vec<u8> {
        STANDARD.decode(SECRET).unwrap()
    }

    #[test]
    fn the_specifications_own_example_verifies() {
        assert_eq!(SIGNED.verify(&[secret()], BODY, NOW_S), Ok(()));
    }

    #[test]
    fn any_secret_with_any_signature_will_do() {
        let rotated = Signed {
            signatures: "v1a,AAAA v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ..SIGNED
        };
        assert_eq!(rotated.verify(&[b"another".to_vec(), secret()], BODY, NOW_S), Ok(()));
    }

    #[test]
    fn a_changed_body_id_time_or_secret_does_not_verify() {
        let mismatch = Err(SignatureError::Mismatch);
        assert_eq!(SIGNED.verify(&[secret()], b"{}", NOW_S), mismatch);
        assert_eq!(Signed { id: "other", ..SIGNED }.verify(&[secret()], BODY, NOW_S), mismatch);
        assert_eq!(Signed { timestamp: "1614265331", ..SIGNED }.verify(&[secret()], BODY, NOW_S), mismatch);
        assert_eq!(SIGNED.verify(&[b"another".to_vec()], BODY, NOW_S), mismatch);
        assert_eq!(SIGNED.verify(&[], BODY, NOW_S), mismatch);
        assert_eq!(Signed { signatures: "", ..SIGNED }.verify(&[secret()], BODY, NOW_S), mismatch);
    }

    #[test]
    fn the_clocks_may_differ_by_five_minutes_and_no_more() {
        for (now_s, expected) in [
            (NOW_S - 300, Ok(())),
            (NOW_S + 300, Ok(())),
            (NOW_S - 301, Err(SignatureError::Clock)),
            (NOW_S + 301, Err(SignatureError::Clock)),
        ] {
            assert_eq!(SIGNED.verify(&[secret()], BODY, now_s), expected, "{now_s}");
        }
        let wild = Signed { timestamp: "-9223372036854775808", ..SIGNED };
        assert_eq!(wild.verify(&[secret()], BODY, NOW_S), Err(SignatureError::Clock));
        let words = Signed { timestamp: "now", ..SIGNED };
        assert_eq!(words.verify(&[secret()], BODY, NOW_S), Err(SignatureError::Timestamp));
    }
}
