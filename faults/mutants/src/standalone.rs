//! `millrace` on two files, without a command.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ingest_api::config::{LimitArgs, status_page};
use ingest_api::{Deps, Scrape, routes};
use millrace_reconcile::health::StreamHealth;
use millrace_reconcile::keeper::CheckPeriods;
use millrace_settings::PolicyArgs;
use millrace_store::Operators;
use millrace_store::sqlite::SqliteStore;
use millrace_stream::embedded::{EmbeddedOptions, EmbeddedStream};
use millrace_telemetry::metrics::{self, Program, Table};
use millrace_telemetry::process;
use stream_worker::config::WorkArgs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::mutant::Mutant;
use crate::roles::{Failure, bind_metrics};
use crate::wrap::{Direct, wrap};

/// Milliseconds between small transactions on files.
const PACE_MS: &str = "10";
const READY_POLL: Duration = Duration::from_millis(20);
/// The metrics of both libraries; the tables of the crates below them are in either list.
const OWN_TABLE_OF_WORKER: Table = stream_worker::metrics::METRICS;

#[derive(Parser)]
struct Args {
    #[arg(long, env = "DATA_DIR")]
    data_dir: PathBuf,
    #[arg(long, env = "LISTEN_ADDR")]
    listen_addr: SocketAddr,
    #[arg(long, env = "METRICS_ADDR")]
    metrics_addr: SocketAddr,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    work: WorkArgs,
}

pub async fn serve(mutant: Option<Mutant>) -> Result<(), Failure> {
    let args = Args::try_parse_from(["millrace"])?;
    let policy = args.policy.check()?;
    process::start_logging(policy.log_format);
    let work = args.work.check(policy.durability, PACE_MS)?;
    let options =
        EmbeddedOptions { folder: args.data_dir.clone(), backlog_events_max: policy.backlog_events_max };
    let store = SqliteStore::open(&args.data_dir)?;
    store.migrate().await?;
    let (stream, store) = wrap(EmbeddedStream::open(options)?, store, mutant, Direct::default());
    let listener = TcpListener::bind(args.listen_addr).await?;
    let scraper = bind_metrics(args.metrics_addr).await?;
    let tables = [ingest_api::metrics::TABLES, &[OWN_TABLE_OF_WORKER]].concat();
    let handle = metrics::install(&tables, &[Program::Api, Program::Worker], &routes::names())?;

    let (stop, stopped) = watch::channel(false);
    let stream_health = Arc::new(StreamHealth::new(policy.durability));
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
        status_page: status_page("off")?,
        limits: args.limits.check()?,
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
