//! Runs a server and its background tasks until it is asked to stop.

use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use millrace_reconcile::keeper;
use millrace_telemetry::scrape::{self, ReadinessAnswer, ReadinessCheck};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cores::Cores;
use crate::health;
use crate::rejections;
use crate::server;
use crate::service::{Deps, Service};
use crate::stage::Stage;
use crate::status;

/// How long the last write of last-used times and of what was refused may take. They are not worth a longer
/// stop.
const LAST_FLUSH_TIME_MAX: Duration = Duration::from_millis(1_500);

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
/// When the listener has no address, or the system has no threads left.
pub async fn run(
    listener: TcpListener,
    scraper: Option<Scrape>,
    deps: Deps,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let (stage, stages) = watch::channel(Stage::Serving);
    let check_periods = deps.check_periods;
    let service = Arc::new(Service::new(deps, address, stages));
    // Ends after the last write: a connection to the store may have been made on one of its threads.
    let cores = Cores::start(threads(), || service.for_another_runtime())?;
    let scraping = async {
        match scraper {
            Some(Scrape { listener, handle }) => {
                scrape::serve(listener, handle, readiness_check(&service), pending()).await;
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
        dropped = server::serve(listener, &cores, service.limits, stage, shutdown) => {
            if dropped > 0 {
                tracing::warn!(connections = dropped, "dropped connections that did not end in time");
            }
        }
        () = scraping => {}
        never = service.accounts.keep_fresh(&service.store) => match never {},
        never = service.accounts.keep_last_used(&service.store) => match never {},
        never = rejections::keep_flushing(&service.rejections, &service.store) => match never {},
        never = status::keep_sampling(&service) => match never {},
        () = checking => {}
    }
    write_rest(&service).await;
    tracing::info!("stopped");
    Ok(())
}

/// One for each core that this process may use.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the listener for scrapes answers to `GET /readyz`: the same as the server.
fn readiness_check(service: &Arc<Service>) -> ReadinessCheck {
    let service = Arc::clone(service);
    Arc::new(move || {
        let service = Arc::clone(&service);
        Box::pin(async move {
            let readiness = health::readiness(&service).await;
            ReadinessAnswer { is_ready: readiness.is_ready(), json: readiness.to_json() }
        })
    })
}

/// Writes what the background tasks have not written yet.
async fn write_rest(service: &Service) {
    let last_used = async {
        let flush = service.accounts.flush_last_used(&service.store);
        if timeout(LAST_FLUSH_TIME_MAX, flush).await.is_err() {
            tracing::debug!("the last-used times of keys could not be written before the end");
        }
    };
    let refused = async {
        let flush = rejections::flush_rest(&service.rejections, &service.store);
        match timeout(LAST_FLUSH_TIME_MAX, flush).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "what was refused last could not be written before the end")
            }
            Err(_) => tracing::warn!("what was refused last could not be written in time before the end"),
        }
    };
    tokio::join!(last_used, refused);
}
