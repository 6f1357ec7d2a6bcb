//! An HTTP proxy for clients that a test does not control. It forwards requests and applies faults to chosen
//! ones.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CONNECTION,
    CONTENT_LENGTH, HeaderValue, ORIGIN, RETRY_AFTER, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::http::{NoAnswer, connect, no_answer};
use crate::pieces::Pieces;

/// A fault of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestFault {
    /// Forward the request, wait for the response, and close the connection instead of delivering it.
    DropAnswer,
    /// Forward the body of the request slowly, in small pieces, and deliver that of the response in the same
    /// way.
    SlowBodies,
    /// Do not forward the request; respond 429 with this `Retry-After`, in seconds.
    TooManyRequests(u32),
    /// Do not forward the request; respond 503 with this `Retry-After`, in seconds.
    Unavailable(u32),
}

/// What a proxy did since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HttpProxyCounts {
    /// Requests received.
    pub received: u64,
    /// Responses delivered.
    pub delivered: u64,
    /// Responses discarded.
    pub dropped: u64,
    /// Requests refused by the proxy.
    pub refused: u64,
    /// Requests refused by the server for now: 429 or 503.
    pub refused_by_server: u64,
    /// Requests forwarded slowly.
    pub slowed: u64,
    /// Bytes of the largest body received.
    pub largest_body: u64,
}

/// An HTTP proxy. Dropping it stops it.
#[derive(Debug)]
pub struct HttpProxy {
    address: SocketAddr,
    shared: Arc<ProxyState>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct ProxyState {
    upstream: SocketAddr,
    faults: HashMap<u64, RequestFault>,
    /// Which requests are counted, and get faults.
    is_counted: fn(&Parts) -> bool,
    received: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    refused_by_server: AtomicU64,
    slowed: AtomicU64,
    largest_body: AtomicU64,
}

impl HttpProxy {
    /// Starts a proxy that, for each `(k, fault)`, applies the fault to the k-th request, counted from 1.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(upstream: SocketAddr, faults: &[(u64, RequestFault)]) -> Self {
        Self::start_for(upstream, faults, |_| true).await
    }

    /// As [`HttpProxy::start`], but counts only POST requests that send events. Others are forwarded: a
    /// browser decides when it sends a preflight request, and PostHog's SDK asks for feature flags just
    /// before or after it sends its first event.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start_for_posts(upstream: SocketAddr, faults: &[(u64, RequestFault)]) -> Self {
        let sends_events =
            |head: &Parts| head.method == Method::POST && !head.uri.path().starts_with("/flags");
        Self::start_for(upstream, faults, sends_events).await
    }

    async fn start_for(
        upstream: SocketAddr,
        faults: &[(u64, RequestFault)],
        is_counted: fn(&Parts) -> bool,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(ProxyState {
            upstream,
            faults: faults.iter().copied().collect(),
            is_counted,
            received: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            refused_by_server: AtomicU64::new(0),
            slowed: AtomicU64::new(0),
            largest_body: AtomicU64::new(0),
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, serving }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn counts(&self) -> HttpProxyCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        HttpProxyCounts {
            received: read(&self.shared.received),
            delivered: read(&self.shared.delivered),
            dropped: read(&self.shared.dropped),
            refused: read(&self.shared.refused),
            refused_by_server: read(&self.shared.refused_by_server),
            slowed: read(&self.shared.slowed),
            largest_body: read(&self.shared.largest_body),
        }
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<ProxyState>) {
    // Dropping the set, when the proxy is dropped, ends the connections.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve_connection(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<ProxyState>) {
    let service = service_fn(|request| answer(request, Arc::clone(&shared)));
    // An error is a client that has disconnected or a response dropped on purpose. Both are counted
    // elsewhere.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

/// An error makes hyper close the connection without a response.
async fn answer(request: Request<Incoming>, shared: Arc<ProxyState>) -> Result<Response<Pieces>, NoAnswer> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(no_answer)?.to_bytes();
    if !(shared.is_counted)(&head) {
        return forward(shared.upstream, Request::from_parts(head, body), Pieces::whole).await;
    }
    shared.largest_body.fetch_max(body.len() as u64, Ordering::SeqCst);
    let number = shared.received.fetch_add(1, Ordering::SeqCst) + 1;
    let fault = shared.faults.get(&number).copied();
    let refusal = match fault {
        Some(RequestFault::TooManyRequests(seconds)) => Some((StatusCode::TOO_MANY_REQUESTS, seconds)),
        Some(RequestFault::Unavailable(seconds)) => Some((StatusCode::SERVICE_UNAVAILABLE, seconds)),
        Some(RequestFault::DropAnswer | RequestFault::SlowBodies) | None => None,
    };
    if let Some((status, seconds)) = refusal {
        shared.refused.fetch_add(1, Ordering::SeqCst);
        return Ok(refuse(status, seconds, head.headers.get(ORIGIN)));
    }
    let mut pace: fn(Bytes) -> Pieces = Pieces::whole;
    if fault == Some(RequestFault::SlowBodies) {
        shared.slowed.fetch_add(1, Ordering::SeqCst);
        pace = Pieces::slow;
    }
    let answered = forward(shared.upstream, Request::from_parts(head, body), pace).await?;
    if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&answered.status()) {
        shared.refused_by_server.fetch_add(1, Ordering::SeqCst);
    }
    if fault == Some(RequestFault::DropAnswer) {
        shared.dropped.fetch_add(1, Ordering::SeqCst);
        return Err(no_answer("dropped on purpose"));
    }
    shared.delivered.fetch_add(1, Ordering::SeqCst);
    Ok(answered)
}

async fn forward(
    upstream: SocketAddr,
    mut request: Request<Bytes>,
    pace: fn(Bytes) -> Pieces,
) -> Result<Response<Pieces>, NoAnswer> {
    // These headers describe the client's connection. hyper adds those of the connection to the server.
    for header in [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH] {
        request.headers_mut().remove(header);
    }
    let answered = connect(upstream).await?.send_request(request.map(pace)).await.map_err(no_answer)?;
    let (mut head, body) = answered.into_parts();
    let body = body.collect().await.map_err(no_answer)?.to_bytes();
    for header in [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH] {
        head.headers.remove(header);
    }
    Ok(Response::from_parts(head, pace(body)))
}

/// A refusal as the server makes it, which a page of any origin can read.
/// A page may send credentials with its request, and then reads only an answer that names its origin.
fn refuse(status: StatusCode, seconds: u32, origin: Option<&HeaderValue>) -> Response<Pieces> {
    let body = r#"{"code":"rate_limited","message":"refused by the test proxy"}"#;
    Response::builder()
        .status(status)
        .header(RETRY_AFTER, seconds)
        .header(ACCESS_CONTROL_ALLOW_ORIGIN, origin.unwrap_or(&HeaderValue::from_static("*")))
        .header(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true")
        .header(ACCESS_CONTROL_EXPOSE_HEADERS, "Retry-After")
        .body(Pieces::whole(Bytes::from_static(body.as_bytes())))
        .expect("a constant response is valid")
}
