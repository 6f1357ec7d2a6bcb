//! Keys that require signatures, used with the client library of Standard Webhooks.

mod stack;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use stack::{Stack, batch, gzip, problem};
use standardwebhooks::Webhook;
use testkit::http::{self, Answer};

struct Signer {
    bearer: String,
    secret: String,
}

/// One signed request.
#[derive(Clone, Copy)]
struct Message<'a> {
    id: &'a str,
    timestamp: i64,
    signature: &'a str,
    body: &'a [u8],
    more_headers: &'a [(&'a str, &'a str)],
}

impl Signer {
    async fn new(stack: &Stack) -> Self {
        let (_, key) = stack.another_project("signed", "pro", true).await;
        Self { bearer: format!("Bearer {}", key.key), secret: key.signing_secret.unwrap() }
    }

    /// Signs as the client library does.
    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        Webhook::new(&self.secret).unwrap().sign(id, timestamp, body.as_bytes()).unwrap()
    }

    /// Signs bytes that are not text, which the client library refuses.
    fn sign_bytes(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let secret = STANDARD.decode(self.secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    async fn post(&self, stack: &Stack, message: &Message<'_>) -> Answer {
        let timestamp = message.timestamp.to_string();
        let headers = [
            ("authorization", self.bearer.as_str()),
            ("webhook-id", message.id),
            ("webhook-timestamp", &timestamp),
            ("webhook-signature", message.signature),
        ];
        let headers = [&headers, message.more_headers].concat();
        http::post(stack.server.address, "/v1/events", &headers, message.body.to_vec()).await
    }
}

fn now_s() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

#[tokio::test]
async fn a_signed_request_is_accepted_and_its_repeats_change_nothing() {
    let stack = Stack::start().await;
    let signer = Signer::new(&stack).await;
    let (timestamp, text) = (now_s(), batch(2));
    let signature = signer.sign("msg_1", timestamp, &text);
    let message =
        Message { id: "msg_1", timestamp, signature: &signature, body: text.as_bytes(), more_headers: &[] };

    let accepted = signer.post(&stack, &message).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let repeated = signer.post(&stack, &message).await;
    assert_eq!((repeated.status, &repeated.body), (202, &accepted.body), "a repeat changes nothing");
    let two_signatures = format!("v1,AAAA {signature}");
    let rotated = signer.post(&stack, &Message { signature: &two_signatures, ..message }).await;
    assert_eq!(rotated.status, 202, "one matching signature is enough");
    assert_eq!(stack.stream.backlog().await.unwrap().entries, 1);

    let other_key = [("idempotency-key", "other")];
    let renamed = signer.post(&stack, &Message { more_headers: &other_key, ..message }).await;
    assert_eq!(problem(&renamed), "invalid_header", "the signature does not cover another idempotency key");
}

#[tokio::test]
async fn the_signature_covers_the_body_as_it_is_sent() {
    let stack = Stack::start().await;
    let signer = Signer::new(&stack).await;
    let (timestamp, text) = (now_s(), batch(2));
    let compressed = gzip(text.as_bytes());
    let more_headers = &[("content-encoding", "gzip")];
    let of_sent = signer.sign_bytes("msg_1", timestamp, &compressed);
    let of_text = signer.sign("msg_1", timestamp, &text);
    let message = Message { id: "msg_1", timestamp, signature: &of_text, body: &compressed, more_headers };
    assert_eq!(problem(&signer.post(&stack, &message).await), "unauthenticated");
    assert_eq!(signer.post(&stack, &Message { signature: &of_sent, ..message }).await.status, 202);
}

#[tokio::test]
async fn a_key_with_a_secret_refuses_requests_that_are_not_signed_correctly() {
    let stack = Stack::start().await;
    let signer = Signer::new(&stack).await;
    let (timestamp, text, other_text) = (now_s(), batch(2), batch(3));
    let old = timestamp - 301;
    let (signature, old_signature) =
        (signer.sign("msg_1", timestamp, &text), signer.sign("msg_1", old, &text));
    let message =
        Message { id: "msg_1", timestamp, signature: &signature, body: text.as_bytes(), more_headers: &[] };
    let (server, unsigned) = (stack.server.address, [("authorization", signer.bearer.as_str())]);
    for (what, answer) in [
        ("another body", signer.post(&stack, &Message { body: other_text.as_bytes(), ..message }).await),
        ("another id", signer.post(&stack, &Message { id: "msg_2", ..message }).await),
        (
            "too old",
            signer.post(&stack, &Message { timestamp: old, signature: &old_signature, ..message }).await,
        ),
        ("no signature", signer.post(&stack, &Message { signature: "", ..message }).await),
        ("a report without headers", http::get(server, "/v1/limits", &unsigned).await),
        ("a post without headers", http::post(server, "/v1/events", &unsigned, batch(1)).await),
    ] {
        assert_eq!((answer.status, problem(&answer).as_str()), (401, "unauthenticated"), "{what}");
        assert_eq!(answer.header("ratelimit"), None, "{what}");
    }
}

#[tokio::test]
async fn a_stolen_key_learns_no_limits_without_its_secret_however_its_request_is_refused() {
    let stack = Stack::start().await;
    let signer = Signer::new(&stack).await;
    let unsigned: [&[(&str, &str)]; 5] = [
        &[],
        &[("content-type", "text/html")],
        &[("content-encoding", "br")],
        &[("idempotency-key", "a b")],
        &[("content-encoding", "gzip"), ("webhook-signature", "v1,AAAA")],
    ];
    let stamp = ("webhook-timestamp", "1");
    for headers in unsigned {
        let auth = ("authorization", signer.bearer.as_str());
        let headers = [&[auth, ("webhook-id", "m"), stamp], headers].concat();
        for path in ["/v1/events", "/v1/batch"] {
            let answer = http::post(stack.server.address, path, &headers, batch(1).into_bytes()).await;
            assert!(answer.status >= 400, "{answer:?}");
            assert_eq!(answer.header("ratelimit"), None, "{path} {headers:?}: {answer:?}");
            assert_eq!(answer.header("ratelimit-policy"), None, "{path} {headers:?}: {answer:?}");
        }
    }
    let (text, timestamp) = (batch(1), now_s());
    let signature = signer.sign("m", timestamp, &text);
    let message =
        Message { id: "m", timestamp, signature: &signature, body: text.as_bytes(), more_headers: &[] };
    assert!(signer.post(&stack, &message).await.header("ratelimit").is_some());
}
