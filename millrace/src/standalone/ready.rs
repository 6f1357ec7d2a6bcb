//! Whether a client would be served: asked as a client asks, so that what we print works at the moment it is read.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const QUESTION: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const YES: &[u8] = b"HTTP/1.1 200 ";
const POLL: Duration = Duration::from_millis(10);
/// Servers that are away may come back any time; what is wrong is in the log by then.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Returns when the API is ready, or has had time enough.
pub(super) async fn ready(address: SocketAddr) {
    let asking = async {
        while !matches!(ask(address).await, Ok(true)) {
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(WAIT_MAX, asking).await.is_err() {
        tracing::warn!("not ready to accept events yet; http://{address}/readyz says why");
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<bool> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(QUESTION).await?;
    let mut answer = [0; YES.len()];
    socket.read_exact(&mut answer).await?;
    Ok(answer == YES)
}
