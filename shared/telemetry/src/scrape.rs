//! The listener for operators: `GET /metrics` for Prometheus, and `GET /healthz`. It has no access control,
//! so it must never listen on an address that clients can reach.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
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

/// Serves scrapes until `shutdown` is ready, and then closes all connections immediately.
pub async fn serve(listener: TcpListener, handle: PrometheusHandle, shutdown: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    let mut upkeep = tokio::time::interval(UPKEEP_EVERY);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = upkeep.tick() => handle.run_upkeep(),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(serve_connection(socket, handle.clone()));
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

async fn serve_connection(socket: tokio::net::TcpStream, handle: PrometheusHandle) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &handle);
        async move { Ok::<_, Infallible>(answer) }
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

fn answer(request: &Request<Incoming>, handle: &PrometheusHandle) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n".into());
    }
    match request.uri().path() {
        "/metrics" => {
            metrics::sample();
            text(StatusCode::OK, handle.render().into())
        }
        "/healthz" => text(StatusCode::OK, "ok\n".into()),
        _ => text(StatusCode::NOT_FOUND, "not found; this listener serves /metrics and /healthz\n".into()),
    }
}

fn text(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
        .header(CACHE_CONTROL, "no-store")
        .body(Full::new(body))
        .expect("constant headers are valid")
}
