//! The program ingest-api: reads settings, starts logging, binds its listeners, and serves.

use std::process::ExitCode;
use std::sync::Arc;

use ingest_api::config::Config;
use ingest_api::metrics::TABLES;
use ingest_api::{Deps, Scrape, listen, routes, run};
use millrace_reconcile::health::StreamHealth;
use millrace_reconcile::keeper::CheckPeriods;
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{Operators, StoreError};
use millrace_stream::Stream;
use millrace_stream::redis::RedisStream;
use millrace_telemetry::metrics::{self, Program};
use millrace_telemetry::process::{start_logging, stop_requested};
use tokio::net::TcpListener;

/// Returns the buffers of connections that have become silent to the system.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Connections to PostgreSQL, shared by accounts, epoch and reports. No batch ever waits for one.
const STORE_CONNECTIONS: usize = 4;

fn main() -> ExitCode {
    let config = match Config::read() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ingest-api: {error}");
            return ExitCode::from(2);
        }
    };
    start_logging(config.policy.log_format);
    // For everything but the connections of clients, which have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ran = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(serve(config)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            // A server that can never be used is a wrong setting.
            let is_unusable = matches!(error.downcast_ref(), Some(StoreError::Unusable(_)));
            if is_unusable { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let stop_requested = stop_requested();
    let Config { servers, policy, http } = config;
    let listener = listen(http.listen).map_err(|error| cannot_listen("LISTEN_ADDR", http.listen, &error))?;
    let scrape_listener = TcpListener::bind(http.metrics).await;
    let scrape_listener =
        scrape_listener.map_err(|error| cannot_listen("METRICS_ADDR", http.metrics, &error))?;
    let handle = metrics::install(TABLES, &[Program::Api], &routes::names())?;
    tracing::info!("metrics on http://{}/metrics", scrape_listener.local_addr()?);
    let stream = RedisStream::new(servers.redis_options(&policy, http.redis_connections))?;
    let store = PostgresStore::new(PostgresOptions {
        source: servers.postgres_source(),
        pool_size: STORE_CONNECTIONS,
        application: "millrace-ingest-api",
    });
    // One that cannot be reached is checked once it answers.
    if let Err(error @ StoreError::Unusable(_)) = store.check_server().await {
        return Err(error.into());
    }
    let stream_health = Arc::new(StreamHealth::new(policy.durability(), stream.shards()));
    let deps = Deps {
        stream,
        store,
        stream_health,
        check_periods: Some(CheckPeriods::API),
        status_page: http.status_page,
        trusted_proxies: http.trusted_proxies,
        limits: http.limits,
    };
    let scrape = Scrape { listener: scrape_listener, handle };
    Ok(run(listener, Some(scrape), deps, stop_requested).await?)
}

fn cannot_listen(variable: &str, address: std::net::SocketAddr, error: &std::io::Error) -> String {
    format!("{variable}={address}: cannot listen on this address: {error}")
}
