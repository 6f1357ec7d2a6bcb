//! `millrace` on two files, without a command.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ingest_api::config::HttpSettings;
use ingest_api::{Deps, Scrape, routes};
use millrace_reconcile::health::StreamHealth;
use millrace_reconcile::keeper::CheckPeriods;
use millrace_settings::Policy;
use millrace_store::Operators;
use millrace_store::sqlite::SqliteStore;
use millrace_stream::embedded::{EmbeddedOptions, EmbeddedStream};
use millrace_telemetry::metrics::{self, Program, Table};
use millrace_telemetry::process;
use stream_worker::config::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::mutant::Mutant;
use crate::roles::{Failure, bind_metrics, settings};
use crate::wrap::{Direct, wrap};

/// Between small transactions on files.
const PACE: Duration = Duration::from_millis(10);
const READY_POLL: Duration = Duration::from_millis(20);
/// The metrics of both libraries; the tables of the crates below them are in either list.
const OWN_TABLE_OF_WORKER: Table = stream_worker::metrics::METRICS;

#[derive(Parser)]
struct Args {
    #[arg(long, env = "DATA_DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    policy: Policy,
    #[command(flatten)]
    http: HttpSettings,
    #[command(flatten)]
    work: Settings,
}

pub async fn serve(mutant: Option<Mutant>) -> Result<(), Failure> {
    let Args { data_dir, policy, http, mut work } = settings()?;
    work.transaction_pace = PACE;
    process::start_logging(policy.log_format);
    let options = EmbeddedOptions { folder: data_dir.clone(), backlog_events_max: policy.backlog_events_max };
    let store = SqliteStore::open(&data_dir)?;
    store.migrate().await?;
    let (stream, store) = wrap(EmbeddedStream::open(options)?, store, mutant, Direct::default());
    let listener = TcpListener::bind(http.listen).await?;
    let scraper = bind_metrics(http.metrics).await?;
    let tables = [ingest_api::metrics::TABLES, &[OWN_TABLE_OF_WORKER]].concat();
    let handle = metrics::install(&tables, &[Program::Api, Program::Worker], &routes::names())?;

    let (stop, stopped) = watch::channel(false);
    let stream_health = Arc::new(StreamHealth::new(policy.durability(), stream.shards()));
    let deps = stream_worker::Deps {
        stream: Arc::clone(&stream),
        store: Arc::clone(&store),
        stream_health: Arc::clone(&stream_health),
        check_periods: CheckPeriods::STANDALONE,
        settings: Arc::new(work),
    };
    let worker = tokio::spawn(stream_worker::run(deps, stopped));
    tokio::spawn(announce_when_ready(listener.local_addr()?));
    let deps = Deps {
        stream,
        store,
        stream_health,
        check_periods: None,
        status_page: http.status_page,
        trusted_proxies: http.trusted_proxies,
        limits: http.limits,
    };
    let scrape = Scrape { listener: scraper, handle };
    ingest_api::run(listener, Some(scrape), deps, process::stop_requested()).await?;
    stop.send_replace(true);
    Ok(worker.await?)
}

/// Logs what a drill waits for, once the API takes batches.
async fn announce_when_ready(api: SocketAddr) {
    while !is_ready(api).await.unwrap_or(false) {
        tokio::time::sleep(READY_POLL).await;
    }
    tracing::info!("ready; Ctrl-C stops it");
}

async fn is_ready(api: SocketAddr) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect(api).await?;
    connection.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
