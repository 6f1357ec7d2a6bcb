//! The memory of the program while many clients are connected and silent.

use std::time::Duration;

use testkit::{Program, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(60);
/// Fewer than the files that a process may usually open.
const CONNECTIONS: u64 = 800;
const CONNECTION_BYTES_MAX: u64 = 10 << 10;
/// Of a batch of ten events.
const BODY_BYTES: usize = 3_500;

/// Sends a request and reads its answer, which may be a refusal.
async fn request(client: &mut TcpStream) {
    let head = format!("POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    client.write_all(&[head.as_bytes(), &[b' '; BODY_BYTES]].concat()).await.unwrap();
    assert!(client.read(&mut [0; 4_096]).await.unwrap() > 0);
}

#[tokio::test]
async fn a_silent_connection_that_has_made_requests_costs_at_most_10_kb() {
    let free_ports = [("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")];
    let mut program = Program::start("ingest-api", &free_ports);
    let address = program.address().await;
    // The first requests take memory that is not of any connection.
    request(&mut TcpStream::connect(address).await.unwrap()).await;
    let before = program.resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = TcpStream::connect(address).await.unwrap();
        request(&mut client).await;
        clients.push(client);
    }
    for client in &mut clients {
        request(client).await;
    }
    eventually(PATIENCE, "the memory to be given back", async || {
        let each = program.resident_bytes().saturating_sub(before) / CONNECTIONS;
        (each <= CONNECTION_BYTES_MAX).then_some(()).ok_or(format!("{each} bytes each"))
    })
    .await;
    drop(clients);
}
