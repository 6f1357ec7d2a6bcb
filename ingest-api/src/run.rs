//! Runs a server and its background tasks until it is asked to stop.

use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use millrace_reconcile::keeper;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::server;
use crate::service::{Deps, Service};
use crate::stage::Stage;
use crate::status;

/// How long the last write of last-used times may take. They are not worth a longer stop.
const LAST_FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// Where Prometheus scrapes this server.
pub struct Scrape {
    pub listener: TcpListener,
    /// From [`millrace_telemetry::metrics::install`].
    pub handle: PrometheusHandle,
}

/// Serves until `shutdown` is ready, then drains. Starts without Redis and PostgreSQL: it answers 503 until
/// they can be reached.
///
/// # Errors
/// When the listener has no address.
pub async fn run(
    listener: TcpListener,
    scrape: Option<Scrape>,
    deps: Deps,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let (stage, stages) = watch::channel(Stage::Serving);
    let check_periods = deps.check_periods;
    let service = Arc::new(Service::new(deps, address, stages));
    let scraping = async {
        match scrape {
            Some(Scrape { listener, handle }) => {
                millrace_telemetry::scrape::serve(listener, handle, pending()).await;
            }
            None => pending().await,
        }
    };
    // The checks end when this function returns, so this sender never asks them to stop.
    let (_stop_checks, stop_checks) = watch::channel(false);
    let checking = async {
        if let Some(periods) = check_periods {
            keeper::keep(&service.stream_health, &service.stream, &service.store, periods, stop_checks).await;
        }
        pending().await
    };
    tracing::info!("listening on http://{address}");
    tokio::select! {
        dropped = server::serve(listener, Arc::clone(&service), stage, shutdown) => {
            if dropped > 0 {
                tracing::warn!(connections = dropped, "dropped connections that did not end in time");
            }
        }
        () = scraping => {}
        never = service.accounts.keep_fresh(&service.store) => match never {},
        never = service.accounts.keep_last_used(&service.store) => match never {},
        never = status::keep_sampling(&service) => match never {},
        () = checking => {}
    }
    let flush = service.accounts.flush_last_used(&service.store);
    if tokio::time::timeout(LAST_FLUSH_TIME_MAX, flush).await.is_err() {
        tracing::debug!("the last-used times of keys could not be written before the end");
    }
    tracing::info!("stopped");
    Ok(())
}
