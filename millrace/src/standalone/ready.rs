//! Waits until clients are served. It asks as a client does, so that the printed command works when it is
//! read.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const REQUEST: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const READY: &[u8] = b"HTTP/1.1 200 ";
const POLL: Duration = Duration::from_millis(10);
/// Unreachable servers may return at any time; the log has the cause by then.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Returns when the API is ready, or after [`WAIT_MAX`].
pub(super) async fn ready(address: SocketAddr) {
    let polling = async {
        while !matches!(is_ready(address).await, Ok(true)) {
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(WAIT_MAX, polling).await.is_err() {
        tracing::warn!("not ready to accept events yet; http://{address}/readyz says why");
    }
}

async fn is_ready(address: SocketAddr) -> std::io::Result<bool> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(REQUEST).await?;
    let mut answer = [0; READY.len()];
    socket.read_exact(&mut answer).await?;
    Ok(answer == READY)
}
