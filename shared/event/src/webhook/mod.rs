//! Standard Webhooks (specification 1.0): the addresses of webhooks, and the signatures of messages.
//!
//! A signature ("Signature scheme") is `v1,` and the base64 of
//! HMAC-SHA256(secret, "{webhook-id}.{webhook-timestamp}.{body}"), several separated by spaces while a secret
//! is rotated. This module must never connect: whether an address may be reached is decided when it is.

mod endpoint;

pub use self::endpoint::{Endpoint, EndpointError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// The HMAC of a message. `timestamp` is in seconds since 1970, as the header has it.
pub fn authenticate(secret: &[u8], id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The header `webhook-id` of a message.
pub fn webhook_id(id: Uuid) -> String {
    format!("msg_{}", id.simple())
}

/// The header `webhook-signature` of a message, with one signature for each secret.
pub fn sign(secrets: &[Vec<u8>], id: &str, timestamp: &str, body: &[u8]) -> String {
    let signature =
        |secret: &Vec<u8>| format!("v1,{}", STANDARD.encode(authenticate(secret, id, timestamp, body)));
    secrets.iter().map(signature).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, timestamp, body) =
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        let signed = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(std::slice::from_ref(&secret), id, timestamp, body), signed);
        let both = sign(&[b"another".to_vec(), secret], id, timestamp, body);
        assert!(both.ends_with(&format!(" {signed}")), "{both}");
    }
}
