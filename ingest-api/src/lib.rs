//! HTTP only: a socket on one side, [`millrace_stream::Stream::admit`] on the other.
//!
//! [`server`] accepts connections, [`routes`] finds the handler of each request, [`ingest`] is the path of a batch, and
//! [`error`] is the one place where reasons become answers; [`status`] is a page for people. In the background [`accounts`] keeps keys and plans fresh
//! and [`millrace_reconcile::keeper`] checks the stream.
//!
//! What this crate must never do: acknowledge a batch that the stream has not admitted, wait for the store on the way
//! of a batch, or log a body or a key.

pub mod accounts;
pub mod answer;
pub mod auth;
pub mod batches;
pub mod body;
pub mod config;
pub mod cors;
pub mod encoding;
pub mod error;
pub mod head;
pub mod headers;
pub mod health;
pub mod ingest;
pub mod limits;
pub mod metrics;
pub mod openapi;
pub mod parameters;
pub mod ratelimit;
pub mod routes;
pub mod server;
pub mod service;
pub mod signature;
pub mod status;
pub mod usage;
pub mod wait;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use millrace_reconcile::keeper;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use service::Deps;
use service::{Service, Stage};
pub use status::{Audience, StatusPage};

/// How long last-used times may take at the end; they are not worth more.
const LAST_FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// Where an operator's Prometheus scrapes this server.
pub struct Scrape {
    /// Its own listener.
    pub listener: TcpListener,
    /// From [`crate::metrics::install`].
    pub handle: PrometheusHandle,
}

/// Serves until `shutdown` is ready, then drains. Needs neither Redis nor PostgreSQL to start: until they are there
/// it answers 503.
///
/// # Errors
/// When a listener has no address.
pub async fn run(
    listener: TcpListener,
    scrape: Option<Scrape>,
    deps: Deps,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    let (stage, stages) = watch::channel(Stage::Serving);
    let check_periods = deps.check_periods;
    let service = Arc::new(Service::new(deps, address, stages));
    let scraping = async {
        match scrape {
            Some(Scrape { listener, handle }) => {
                millrace_telemetry::scrape::serve(listener, handle, std::future::pending()).await;
            }
            None => std::future::pending().await,
        }
    };
    // The checks end when this function returns, so this sender never asks them to stop.
    let (_stop_checks, stop_checks) = watch::channel(false);
    let checking = async {
        if let Some(periods) = check_periods {
            keeper::keep(&service.stream_health, &service.stream, &service.store, periods, stop_checks).await;
        }
        std::future::pending().await
    };
    tracing::info!(%address, "listening on http://{address}");
    tokio::select! {
        dropped = server::serve(listener, Arc::clone(&service), stage, shutdown) => {
            if dropped > 0 {
                tracing::warn!(dropped, "{dropped} connections did not end in time");
            }
        }
        () = scraping => {}
        never = service.accounts.keep_fresh(&service.store) => match never {},
        never = service.accounts.keep_last_used(&service.store) => match never {},
        never = status::keep_telling(&service) => match never {},
        () = checking => {}
    }
    let flush = service.accounts.flush_last_used(&service.store);
    if tokio::time::timeout(LAST_FLUSH_TIME_MAX, flush).await.is_err() {
        tracing::debug!("last-used times could not be written at the end");
    }
    tracing::info!("stopped");
    Ok(())
}
