//! Waiting for an API that can take the batches of every project.

use std::net::SocketAddr;
use std::time::Duration;

use crate::eventually::eventually;
use crate::http::HttpClient;

/// Waits until `/readyz` of an API has nothing against any shard. The status alone says that one is ready.
///
/// # Panics
/// When it has not at the deadline. The message contains its last answer.
pub async fn wait_until_ready(api: SocketAddr, deadline: Duration) {
    eventually(deadline, "an API to be ready", async || {
        let answer = HttpClient::new(api).get("/readyz", &[]).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status == 200 && body.contains(r#""reasons":[]"#) { Ok(()) } else { Err(body) }
    })
    .await;
}
