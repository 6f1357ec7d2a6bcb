//! The listener for operators: `GET /metrics` for Prometheus, `GET /healthz` and `GET /readyz`. It has no
//! access control, so it must never listen on an address that clients can reach.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::metrics;

/// Connections that may be open. Further connections are closed immediately.
const CONNECTIONS_MAX: usize = 64;
/// A connection is closed after this time without a request.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// The exporter collects samples of histograms in memory until a scrape or this upkeep sorts them into
/// buckets.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// The pause after a failed accept, for example when no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PLAIN_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer to `GET /readyz`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadinessAnswer {
    /// 200 when true, 503 when not.
    pub is_ready: bool,
    /// The body. It must not contain an address or a password.
    pub json: String,
}

/// How the program finds out whether it can do its work. It is called for each `GET /readyz`, and must answer
/// within a few seconds also when a dependency does not.
pub type ReadinessCheck =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ReadinessAnswer> + Send>> + Send + Sync>;

/// What the listener serves.
#[derive(Clone)]
struct Sources {
    handle: PrometheusHandle,
    readiness: ReadinessCheck,
}

/// Serves scrapes until `shutdown` is ready, and then closes all connections immediately.
pub async fn serve(
    listener: TcpListener,
    handle: PrometheusHandle,
    readiness: ReadinessCheck,
    shutdown: impl Future<Output = ()>,
) {
    let sources = Sources { handle, readiness };
    let mut connections = JoinSet::new();
    let mut upkeep = tokio::time::interval(UPKEEP_EVERY);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = upkeep.tick() => sources.handle.run_upkeep(),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(serve_connection(socket, sources.clone()));
                }
                Ok((_, peer)) => {
                    tracing::warn!(%peer, limit = CONNECTIONS_MAX, "closed a scraper's connection at the limit");
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a scraper's connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn serve_connection(socket: tokio::net::TcpStream, sources: Sources) {
    let service = service_fn(|request: Request<Incoming>| {
        let sources = &sources;
        async move { Ok::<_, Infallible>(answer(&request, sources).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a scraper's connection failed");
    }
}

async fn answer(request: &Request<Incoming>, sources: &Sources) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n");
    }
    match request.uri().path() {
        "/metrics" => {
            metrics::sample();
            text(StatusCode::OK, sources.handle.render())
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => ready((sources.readiness)().await),
        _ => text(StatusCode::NOT_FOUND, "not found; this listener serves /metrics, /healthz and /readyz\n"),
    }
}

fn ready(answer: ReadinessAnswer) -> Response<Full<Bytes>> {
    let status = if answer.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = respond(status, "application/json", answer.json.into());
    if !answer.is_ready {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, PLAIN_TEXT, body.into())
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        .header(CACHE_CONTROL, "no-store")
        .body(Full::new(body))
        .expect("constant headers are valid")
}
