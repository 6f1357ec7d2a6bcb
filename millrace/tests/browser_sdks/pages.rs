//! The server of the pages that use Millrace: another origin than Millrace itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What tracing libraries do to every request of a page.
const TRACED: &str = r#"
const added = { baggage: "a=1", "sentry-trace": "1-2", traceparent: "00-1-2-01", tracestate: "a=1", newrelic: "e30=",
  "x-datadog-trace-id": "1", "x-datadog-parent-id": "2", "x-datadog-origin": "rum", "x-datadog-sampling-priority": "1" };
const plainFetch = window.fetch;
window.fetch = (url, options = {}) =>
  plainFetch(url, { ...options, headers: { ...Object.fromEntries(new Headers(options.headers)), ...added } });
const plainSend = XMLHttpRequest.prototype.send;
XMLHttpRequest.prototype.send = function (body) {
  Object.entries(added).forEach(([name, value]) => this.setRequestHeader(name, value));
  plainSend.call(this, body);
};
"#;

/// Serves `/SCRIPT.html`, a page with one of the scripts of `testkit/sdk/browser`, `/traced/SCRIPT.html`,
/// where a tracing library adds its headers, and `/empty.html`.
pub struct Pages {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Pages {
    /// # Panics
    /// When the scripts were not built.
    pub async fn start() -> Self {
        assert!(script("segment").is_file(), "{} is missing: ./test builds it", script("segment").display());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // A browser may close its connection at any time.
                tokio::spawn(async move { answer(socket).await.ok() });
            }
        });
        Self { address, serving }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn url(&self, page: &str) -> String {
        format!("{}/{page}", self.origin())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn script(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("testkit").join("sdk/browser/.build");
    folder.join(format!("{name}.js"))
}

async fn answer(mut socket: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default().split('?').next().unwrap_or_default();
    let (content_type, body) = match name.split_once('.') {
        Some((name, "js")) => ("text/javascript", std::fs::read_to_string(script(name))?),
        Some((name, "html")) => ("text/html", page(name, path.starts_with("/traced/"))),
        _ => ("text/plain", String::new()),
    };
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(answer.as_bytes()).await
}

fn page(name: &str, is_traced: bool) -> String {
    let traced = if is_traced { format!("<script>{TRACED}</script>") } else { String::new() };
    let script =
        if name == "empty" { String::new() } else { format!("<script src=\"/{name}.js\"></script>") };
    format!(
        "<!doctype html><meta charset=\"utf-8\"><title>shop</title><p id=\"state\">loading</p>{traced}{script}"
    )
}
