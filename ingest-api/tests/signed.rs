//! Keys that demand signatures, as a Standard Webhooks client uses them.

mod stack;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use stack::{Stack, batch, gzip, problem};
use testkit::http::{self, Answer};

struct Signer {
    bearer: String,
    secret: Vec<u8>,
}

impl Signer {
    async fn new(stack: &Stack) -> Self {
        let (_, key) = stack.another_project("signed", "pro", true).await;
        let secret = key.signing_secret.unwrap();
        let secret = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        Self { bearer: format!("Bearer {}", key.key), secret }
    }

    fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).unwrap();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// Posts gzip, because the signature is over what is sent.
    async fn post(
        &self,
        stack: &Stack,
        id: &str,
        timestamp: &str,
        signature: &str,
        body: &[u8],
        more: &[(&str, &str)],
    ) -> Answer {
        let headers = [
            ("authorization", self.bearer.as_str()),
            ("webhook-id", id),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature),
            ("content-encoding", "gzip"),
        ];
        let headers = [&headers, more].concat();
        http::post(stack.server.address, "/v1/events", &headers, body.to_vec()).await
    }
}

#[tokio::test]
async fn a_key_with_a_secret_takes_signed_requests_only_and_each_once() {
    let stack = Stack::start().await;
    let signer = Signer::new(&stack).await;
    let body = gzip(batch(2).as_bytes());
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let (fresh, old) = (now.to_string(), (now - 301).to_string());
    let good = signer.sign("msg_1", &fresh, &body);

    let accepted = signer.post(&stack, "msg_1", &fresh, &good, &body, &[]).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let replayed = signer.post(&stack, "msg_1", &fresh, &good, &body, &[]).await;
    assert_eq!((replayed.status, &replayed.body), (202, &accepted.body), "a replay changes nothing");
    let both = format!("v1,AAAA {good}");
    let rotating = signer.post(&stack, "msg_1", &fresh, &both, &body, &[]).await;
    assert_eq!(rotating.status, 202, "any of several signatures will do");
    assert_eq!(stack.stream.backlog().await.unwrap().entries, 1);

    let renamed = signer.post(&stack, "msg_1", &fresh, &good, &body, &[("idempotency-key", "other")]).await;
    assert_eq!(problem(&renamed), "invalid_header", "the signature does not cover another name");

    let other_body = gzip(batch(3).as_bytes());
    for (what, answer) in [
        ("another body", signer.post(&stack, "msg_2", &fresh, &good, &other_body, &[]).await),
        ("another id", signer.post(&stack, "msg_2", &fresh, &good, &body, &[]).await),
        ("too old", signer.post(&stack, "msg_2", &old, &signer.sign("msg_2", &old, &body), &body, &[]).await),
        ("no signature", signer.post(&stack, "msg_2", &fresh, "", &body, &[]).await),
        (
            "a report unsigned",
            http::get(stack.server.address, "/v1/limits", &[("authorization", &signer.bearer)]).await,
        ),
        (
            "no headers",
            http::post(stack.server.address, "/v1/events", &[("authorization", &signer.bearer)], batch(1))
                .await,
        ),
    ] {
        assert_eq!((answer.status, problem(&answer).as_str()), (401, "unauthenticated"), "{what}");
        assert_eq!(answer.header("ratelimit"), None, "{what}");
    }
}
