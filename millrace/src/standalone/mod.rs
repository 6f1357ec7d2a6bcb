//! `millrace` without a command: ingest-api and stream-worker in one process, which know as little of each other as ever.
//!
//! What this room must never do: listen before every setting is checked, print a key that was not stored, or stop the lanes
//! before the API has answered everybody.

mod ready;
mod settings;
mod status_line;
mod welcome;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ingest_api::{Audience, Deps, Scrape, routes};
use millrace_reconcile::health::StreamHealth;
use millrace_reconcile::keeper::CheckPeriods;
use millrace_settings::Policy;
use millrace_stream::SharedStream;
use millrace_telemetry::metrics::{self, Program, Table};
use millrace_telemetry::process;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::settings::Serve;
pub(crate) use self::settings::ServeArgs;
use self::status_line::StatusLine;
use self::welcome::Welcome;
use crate::failure::Failure;
use crate::place::{Connections, Place};

/// The tables of every crate that this program is made of.
const TABLES: &[Table] = &[
    ingest_api::metrics::METRICS,
    stream_worker::metrics::METRICS,
    millrace_reconcile::metrics::METRICS,
    millrace_stream::metrics::METRICS,
    millrace_store::metrics::METRICS,
    metrics::METRICS,
];

/// Connections to PostgreSQL that API and upkeep share; each lane has one of its own.
const POSTGRES_CONNECTIONS: usize = 6;
/// How long the lanes may go on after the last answer. What waits longer is on disk, and stored after the next start.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// Serves until the process is asked to stop.
///
/// # Errors
/// [`Failure`] when it cannot begin.
pub(crate) async fn run(place: &Place, policy: Policy, args: &ServeArgs) -> Result<(), Failure> {
    let Serve { listen, metrics: metrics_addr, status_page, redis_connections, limits, work } =
        args.check(policy.durability, place)?;
    let line = StatusLine::new();
    process::start_logging_to(line.log_writer(), policy.log_format, "warn");
    let listener = bind("LISTEN_ADDR", listen).await?;
    let scraper = bind("METRICS_ADDR", metrics_addr).await?;
    let handle = metrics::install(TABLES, &[Program::Api, Program::Worker], &routes::names())
        .map_err(|error| Failure::Refused(error.to_string()))?;
    let connections = Connections { redis: redis_connections, postgres: POSTGRES_CONNECTIONS };
    let (stream, store) = place.open(&policy, connections)?;
    if let Place::Folder(folder) = place {
        metrics::watch_folder(folder.clone());
    }
    store.migrate().await?;
    let listening = listener.local_addr().map_err(cannot_listen)?;
    let welcome = Welcome {
        place: place.describe(),
        address: welcome::reachable(listening),
        metrics: scraper.local_addr().map_err(cannot_listen)?,
        has_page: status_page.audience(listening) != Audience::Empty,
        first: welcome::first_project(&*store).await?,
    };
    tracing::info!("metrics on http://{}/metrics", welcome.metrics);

    let (stop, stopped) = watch::channel(false);
    // The worker checks the stream for the API, too: it starts before it and stops after it.
    let stream_health = Arc::new(StreamHealth::new(policy.durability));
    let worker = stream_worker::Deps {
        stream: Arc::clone(&stream),
        store: Arc::clone(&store),
        stream_health: Arc::clone(&stream_health),
        check_periods: CheckPeriods::STANDALONE,
        settings: Arc::new(work),
    };
    let worker = tokio::spawn(stream_worker::run(worker, stopped.clone()));
    let telling = tokio::spawn({
        let (stream, store, handle) = (Arc::clone(&stream), Arc::clone(&store), handle.clone());
        async move {
            ready::ready(welcome.address).await;
            welcome.say();
            line.keep(stream, store, handle, stopped).await;
        }
    });
    let deps =
        Deps { stream: Arc::clone(&stream), store, stream_health, check_periods: None, status_page, limits };
    let scrape = Scrape { listener: scraper, handle };
    ingest_api::run(listener, Some(scrape), deps, process::stop_requested()).await.map_err(cannot_listen)?;
    let waiting = drain(&stream).await;
    stop.send_replace(true);
    for task in [worker, telling] {
        task.await.map_err(|error| Failure::Refused(format!("a task of ours has died: {error}")))?;
    }
    welcome::say_goodbye(waiting);
    Ok(())
}

/// Waits until everything is stored, but not for long, and not when asked again. Returns how many events still wait.
async fn drain(stream: &SharedStream) -> u64 {
    let deadline = tokio::time::Instant::now() + DRAIN_TIME_MAX;
    let asked_again = process::stop_requested();
    tokio::pin!(asked_again);
    loop {
        let waiting = stream.backlog().await.map_or(0, |backlog| backlog.events);
        if waiting == 0 {
            return 0;
        }
        tokio::select! {
            () = tokio::time::sleep(DRAIN_POLL) => {}
            () = tokio::time::sleep_until(deadline) => return waiting,
            () = &mut asked_again => return waiting,
        }
    }
}

async fn bind(variable: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| {
        Failure::Refused(format!(
            "{variable}={address}: cannot listen there: {error}; set {variable} to another one"
        ))
    })
}

fn cannot_listen(error: std::io::Error) -> Failure {
    Failure::Refused(format!("cannot listen: {error}"))
}
