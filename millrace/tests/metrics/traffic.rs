//! Requests of clients, valid and refused.

use std::net::SocketAddr;

use testkit::eventually;
use testkit::http::{get, post};

use crate::installation::PATIENCE;

/// A valid event, and one that is refused.
const BATCH: &str = r#"[{"name":"a","id":"1","timestamp":"2026-11-01T00:00:00Z"},{"name":""}]"#;

/// Posts events until the answer has this status.
pub async fn post_until(api: SocketAddr, key: &str, body: &str, status: u16) {
    let bearer = format!("Bearer {key}");
    eventually(PATIENCE, "events to be answered", async || {
        let answer = post(api, "/v1/events", &[("authorization", &bearer)], body.to_owned()).await;
        (answer.status == status).then_some(()).ok_or(format!("{answer:?}"))
    })
    .await;
}

/// Posts a batch, repeats it, and sends requests that are refused.
pub async fn use_everything(api: SocketAddr, key: &str) {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
    eventually(PATIENCE, "the server to be ready", async || {
        let answer = get(api, "/readyz", &[]).await;
        (answer.status == 200).then_some(()).ok_or(format!("{answer:?}"))
    })
    .await;
    for _ in 0..2 {
        let answer = post(api, "/v1/events", &headers, BATCH).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(post(api, "/v1/t", &headers, "{").await.status, 400);
    assert_eq!(get(api, "/v1/usage", &headers).await.status, 200);
    assert_eq!(get(api, "/nowhere", &[]).await.status, 404);
}
