//! `millrace` without a command: ingest-api and stream-worker in one process. Neither depends on the other
//! here either.
//!
//! This module must never listen before every setting is checked, print a key that is not stored, or stop the
//! lanes before the API has answered every request.

mod ready;
mod status_line;
mod welcome;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ingest_api::config::HttpSettings;
use ingest_api::{Audience, Deps, Scrape, routes};
use millrace_reconcile::health::StreamHealth;
use millrace_reconcile::keeper::CheckPeriods;
use millrace_settings::Policy;
use millrace_stream::SharedStream;
use millrace_telemetry::metrics::{self, Program, Table};
use millrace_telemetry::process;
use stream_worker::config::Settings;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::status_line::StatusLine;
use self::welcome::Welcome;
use crate::backend::{Backend, Connections};
use crate::failure::Failure;

/// The tables of every crate that this program is made of.
const TABLES: &[Table] = &[
    ingest_api::metrics::METRICS,
    stream_worker::metrics::METRICS,
    millrace_reconcile::metrics::METRICS,
    millrace_stream::metrics::METRICS,
    millrace_store::metrics::METRICS,
    metrics::METRICS,
];

/// Connections to PostgreSQL that API and upkeep share; each lane has its own.
const POSTGRES_CONNECTIONS: usize = 6;
/// How long the lanes continue after the last answer. What still waits is on disk, and is stored after the
/// next start.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// Serves until the process is asked to stop.
///
/// # Errors
/// When it cannot start.
pub(crate) async fn run(
    backend: &Backend,
    policy: Policy,
    http: HttpSettings,
    work: Settings,
) -> Result<(), Failure> {
    let stop_requested = process::stop_requested();
    let line = StatusLine::new();
    process::start_logging_to(line.log_writer(), policy.log_format, "warn");
    let handle = metrics::install(TABLES, &[Program::Api, Program::Worker], &routes::names())
        .map_err(|error| Failure::Refused(error.to_string()))?;
    let connections = Connections { redis: http.redis_connections, postgres: POSTGRES_CONNECTIONS };
    let (stream, store) = backend.open(&policy, connections)?;
    if let Backend::Files(folder) = backend {
        metrics::watch_folder(folder.clone());
    }
    store.migrate().await?;
    stream_worker::settlement::check(&*store, &work).await.map_err(Failure::Refused)?;
    // Only now: no client finds a service without tables.
    let listener = bound("LISTEN_ADDR", http.listen, ingest_api::listen(http.listen))?;
    let scraper = bound("METRICS_ADDR", http.metrics, TcpListener::bind(http.metrics).await)?;
    let listening = listener.local_addr().map_err(cannot_listen)?;
    let welcome = Welcome {
        backend: backend.describe(),
        address: welcome::reachable(listening),
        metrics: scraper.local_addr().map_err(cannot_listen)?,
        has_page: http.status_page.audience(listening) != Audience::Empty,
        first_keys: welcome::create_first_project(&*store).await?,
    };
    tracing::info!("metrics on http://{}/metrics", welcome.metrics);

    let (stop, stopped) = watch::channel(false);
    // The worker checks the stream for the API, too: it starts before it and stops after it.
    let stream_health = Arc::new(StreamHealth::new(policy.durability(), stream.shards()));
    let worker = stream_worker::Deps {
        stream: Arc::clone(&stream),
        store: Arc::clone(&store),
        stream_health: Arc::clone(&stream_health),
        check_periods: CheckPeriods::STANDALONE,
        settings: Arc::new(work),
    };
    let worker = tokio::spawn(stream_worker::run(worker, stopped.clone()));
    let screen = tokio::spawn({
        let (stream, store) = (Arc::clone(&stream), Arc::clone(&store));
        async move {
            ready::ready(welcome.address).await;
            welcome.print();
            line.update(stream, store, stopped).await;
        }
    });
    let HttpSettings { status_page, trusted_proxies, limits, .. } = http;
    let stream_of_api = Arc::clone(&stream);
    let deps = Deps {
        stream: stream_of_api,
        store,
        stream_health,
        check_periods: None,
        status_page,
        trusted_proxies,
        limits,
    };
    let scrape = Scrape { listener: scraper, handle };
    ingest_api::run(listener, Some(scrape), deps, stop_requested).await.map_err(cannot_listen)?;
    let waiting = drain(&stream).await;
    stop.send_replace(true);
    for task in [worker, screen] {
        task.await.map_err(|error| Failure::Refused(format!("a task failed while stopping: {error}")))?;
    }
    welcome::print_goodbye(waiting);
    Ok(())
}

/// Waits until every event is stored, at most [`DRAIN_TIME_MAX`] and not after a second Ctrl-C. Returns how
/// many events still wait; `None` when the stream does not say.
async fn drain(stream: &SharedStream) -> Option<u64> {
    let deadline = tokio::time::Instant::now() + DRAIN_TIME_MAX;
    let asked_again = process::stop_requested();
    tokio::pin!(asked_again);
    loop {
        let waiting = stream.backlog().await.ok().map(|backlog| backlog.events);
        if waiting == Some(0) {
            return waiting;
        }
        tokio::select! {
            () = tokio::time::sleep(DRAIN_POLL) => {}
            () = tokio::time::sleep_until(deadline) => return waiting,
            () = &mut asked_again => return waiting,
        }
    }
}

fn bound(
    variable: &str,
    address: SocketAddr,
    listener: io::Result<TcpListener>,
) -> Result<TcpListener, Failure> {
    listener.map_err(|error| {
        Failure::Refused(format!(
            "{variable}={address}: cannot listen on this address: {error}; set {variable} to another address"
        ))
    })
}

fn cannot_listen(error: io::Error) -> Failure {
    Failure::Refused(format!("cannot listen: {error}"))
}
