//! Signed requests, as Standard Webhooks specifies them (specification 1.0, "Signature scheme"):
//! `webhook-signature` holds `v1,` and the base64 of HMAC-SHA256(secret,
//! "{webhook-id}.{webhook-timestamp}.{body}"), several separated by spaces while a secret is rotated. The
//! body is signed as it was sent, before decompression.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use millrace_event::plan::Account;
use millrace_event::webhook;
use subtle::{Choice, ConstantTimeEq};
use time::OffsetDateTime;

/// How far the client's clock may differ from the server's, in seconds, in both directions.
const CLOCK_TOLERANCE_S: i64 = 300;
/// Longest `webhook-id`, in bytes. It is used as idempotency key.
const ID_BYTES_MAX: usize = millrace_event::event::IDEMPOTENCY_KEY_BYTES_MAX;
/// A shorter secret in the database is a mistake, and is ignored. An empty one would let every client sign.
const SECRET_BYTES_MIN: usize = 16;
/// Signatures that are compared. A client has one or two secrets.
const SIGNATURES_MAX: usize = 16;

/// Why a signed request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignatureError {
    #[error(
        "this key requires signed requests; send webhook-id, webhook-timestamp and webhook-signature, each once"
    )]
    Missing,
    #[error("webhook-id must be 1 to 255 visible ASCII characters")]
    Id,
    #[error("webhook-timestamp must be a whole number of seconds since 1970")]
    Timestamp,
    #[error(
        "webhook-timestamp differs from the server's clock by more than 300 seconds; set the client's clock"
    )]
    Clock,
    #[error(
        "no signature in webhook-signature matches the request; check the secret, and sign the body as it is sent"
    )]
    Mismatch,
}

/// The three headers of a signed request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignatureHeaders<'a> {
    /// `webhook-id`: identifies the message, and is the same in every retry.
    pub id: &'a str,
    timestamp: &'a str,
    signatures: &'a str,
}

/// Checks a request with this body, if its key requires a signature.
///
/// # Errors
/// [`SignatureError`].
pub fn verify_now(account: &Account, headers: &HeaderMap, body: &[u8]) -> Result<(), SignatureError> {
    if account.signing_secrets.is_empty() {
        return Ok(());
    }
    SignatureHeaders::read(headers)?.verify(&account.signing_secrets, body, now_s())
}

/// Seconds since 1970, by the server's clock.
pub fn now_s() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

impl<'a> SignatureHeaders<'a> {
    /// # Errors
    /// [`SignatureError::Missing`] or [`SignatureError::Id`].
    pub fn read(headers: &'a HeaderMap) -> Result<Self, SignatureError> {
        let one = |name: &str| {
            let mut values = headers.get_all(name).iter();
            match (values.next().map(|value| value.to_str()), values.next()) {
                (Some(Ok(value)), None) => Ok(value),
                _ => Err(SignatureError::Missing),
            }
        };
        let read = Self {
            id: one("webhook-id")?,
            timestamp: one("webhook-timestamp")?,
            signatures: one("webhook-signature")?,
        };
        let visible = read.id.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || !(1..=ID_BYTES_MAX).contains(&read.id.len()) {
            return Err(SignatureError::Id);
        }
        Ok(read)
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
            let expected = webhook::authenticate(secret, self.id, self.timestamp, body);
            for signature in self.signatures.split(' ').take(SIGNATURES_MAX) {
                let encoded = signature.strip_prefix("v1,").unwrap_or_default();
                let found = STANDARD.decode(encoded).unwrap_or_default();
                matches |= expected[..].ct_eq(&found);
            }
        }
        if matches.into() { Ok(()) } else { Err(SignatureError::Mismatch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the Standard Webhooks specification and its reference libraries.
    const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const EXAMPLE: SignatureHeaders<'_> = SignatureHeaders {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: "1614265330",
        signatures: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    };
    const NOW_S: i64 = 1_614_265_330;

    fn secret() -> Vec<u8> {
        STANDARD.decode(SECRET).unwrap()
    }

    #[test]
    fn the_signatures_of_the_reference_library_verify() {
        let library = standardwebhooks::Webhook::new(SECRET).unwrap();
        for (id, timestamp, body) in [
            ("msg_1", NOW_S, r#"{"events":[{"name":"a"}]}"#),
            ("order-1001.retry", NOW_S - 300, ""),
            ("x", NOW_S + 300, "[{\"name\":\"é\"}]\n"),
        ] {
            let signatures = library.sign(id, timestamp, body.as_bytes()).unwrap();
            let timestamp = timestamp.to_string();
            let headers = SignatureHeaders { id, timestamp: &timestamp, signatures: &signatures };
            assert_eq!(headers.verify(&[secret()], body.as_bytes(), NOW_S), Ok(()), "{id}");
            assert_eq!(headers.verify(&[secret()], b"other", NOW_S), Err(SignatureError::Mismatch), "{id}");
        }
    }

    #[test]
    fn the_example_of_the_specification_verifies() {
        assert_eq!(EXAMPLE.verify(&[secret()], BODY, NOW_S), Ok(()));
    }

    #[test]
    fn one_match_of_any_secret_with_any_signature_is_enough() {
        let rotated = SignatureHeaders {
            signatures: "v1a,AAAA v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ..EXAMPLE
        };
        assert_eq!(rotated.verify(&[b"another".to_vec(), secret()], BODY, NOW_S), Ok(()));
    }

    #[test]
    fn a_changed_body_id_time_or_secret_does_not_verify() {
        let mismatch = Err(SignatureError::Mismatch);
        assert_eq!(EXAMPLE.verify(&[secret()], b"{}", NOW_S), mismatch);
        assert_eq!(SignatureHeaders { id: "other", ..EXAMPLE }.verify(&[secret()], BODY, NOW_S), mismatch);
        assert_eq!(
            SignatureHeaders { timestamp: "1614265331", ..EXAMPLE }.verify(&[secret()], BODY, NOW_S),
            mismatch
        );
        assert_eq!(EXAMPLE.verify(&[b"another".to_vec()], BODY, NOW_S), mismatch);
        assert_eq!(EXAMPLE.verify(&[], BODY, NOW_S), mismatch);
        assert_eq!(SignatureHeaders { signatures: "", ..EXAMPLE }.verify(&[secret()], BODY, NOW_S), mismatch);
    }

    #[test]
    fn the_clocks_may_differ_by_five_minutes_at_most() {
        for (now_s, expected) in [
            (NOW_S - 300, Ok(())),
            (NOW_S + 300, Ok(())),
            (NOW_S - 301, Err(SignatureError::Clock)),
            (NOW_S + 301, Err(SignatureError::Clock)),
        ] {
            assert_eq!(EXAMPLE.verify(&[secret()], BODY, now_s), expected, "{now_s}");
        }
        let wild = SignatureHeaders { timestamp: "-9223372036854775808", ..EXAMPLE };
        assert_eq!(wild.verify(&[secret()], BODY, NOW_S), Err(SignatureError::Clock));
        let words = SignatureHeaders { timestamp: "now", ..EXAMPLE };
        assert_eq!(words.verify(&[secret()], BODY, NOW_S), Err(SignatureError::Timestamp));
    }
}
