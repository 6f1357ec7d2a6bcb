//! The listener for scrapes, over a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use millrace_telemetry::metrics::{self, Program};
use millrace_telemetry::scrape::{self, ReadinessAnswer, ReadinessCheck};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// Sends one request, and returns everything until the server closes the connection.
async fn exchange(address: std::net::SocketAddr, request_line: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("{request_line} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
    answer
}

#[tokio::test]
async fn the_listener_serves_metrics_and_health_until_it_is_stopped() {
    let handle: PrometheusHandle = metrics::install(&[metrics::METRICS], &[Program::Api], &[]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let is_ready = Arc::new(AtomicBool::new(false));
    let readiness: ReadinessCheck = Arc::new({
        let is_ready = Arc::clone(&is_ready);
        move || {
            let is_ready = is_ready.load(Ordering::Relaxed);
            Box::pin(async move { ReadinessAnswer { is_ready, json: format!(r#"{{"ready":{is_ready}}}"#) } })
        }
    });
    let served = tokio::spawn(scrape::serve(listener, handle, readiness, async move {
        stopped.await.expect("the test stops the listener");
    }));

    let page = exchange(address, "GET /metrics").await;
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("text/plain; version=0.0.4"), "{page}");
    assert!(page.contains("\nmillrace_build_info{") && page.contains("\nprocess_open_fds "), "{page}");
    assert!(exchange(address, "GET /healthz").await.ends_with("\r\n\r\nok\n"));
    let unready = exchange(address, "GET /readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503 ") && unready.contains("retry-after: 1\r\n"), "{unready}");
    assert!(unready.contains("application/json") && unready.ends_with(r#"{"ready":false}"#), "{unready}");
    is_ready.store(true, Ordering::Relaxed);
    let ready = exchange(address, "GET /readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.ends_with(r#"{"ready":true}"#), "{ready}");
    let head = exchange(address, "HEAD /metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(exchange(address, "GET /").await.starts_with("HTTP/1.1 404 "));
    assert!(exchange(address, "POST /metrics").await.starts_with("HTTP/1.1 405 "));

    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut first = [0; 1];
    timeout(PATIENCE, idle.read_exact(&mut first)).await.expect("an answer in time").unwrap();
    stop.send(()).unwrap();
    timeout(PATIENCE, served).await.expect("the listener stops").unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, idle.read_to_end(&mut rest)).await.expect("an open connection is closed").unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}
