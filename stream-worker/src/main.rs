//! The worker as a process: reads the settings, starts the log, binds the metrics listener, runs.

use std::process::ExitCode;
use std::sync::Arc;

use millrace_reconcile::health::StreamHealth;
use millrace_reconcile::keeper::CheckPeriods;
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{Operators, StoreError};
use millrace_stream::Stream;
use millrace_stream::redis::RedisStream;
use millrace_telemetry::metrics::{self, Program};
use millrace_telemetry::{process, scrape};
use stream_worker::Deps;
use stream_worker::config::Config;
use stream_worker::metrics::TABLES;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// Connections to Redis in addition to those of the readers. Settling and upkeep share them.
const REDIS_CONNECTIONS: usize = 2;
/// Connections to PostgreSQL in addition to those of the lanes.
const POOL_SIZE: usize = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::read() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("stream-worker: {error}");
            return ExitCode::from(2);
        }
    };
    process::start_logging(config.policy.log_format);
    match serve(config).await {
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
    let stop_requested = process::stop_requested();
    let scraper = TcpListener::bind(config.metrics)
        .await
        .map_err(|error| format!("METRICS_ADDR={}: {error}", config.metrics))?;
    let handle = metrics::install(TABLES, &[Program::Worker], &[])?;
    tracing::info!("metrics on http://{}/metrics", scraper.local_addr()?);

    let stream = RedisStream::new(config.servers.redis_options(&config.policy, REDIS_CONNECTIONS))?;
    let store = PostgresStore::new(PostgresOptions {
        source: config.servers.postgres_source(),
        pool_size: POOL_SIZE,
        application: "millrace-worker",
    });
    // One that cannot be reached is checked once it answers.
    if let Err(error @ StoreError::Unusable(_)) = store.check_server().await {
        return Err(error.into());
    }
    let (stop, stopped) = watch::channel(false);
    let stream_health = Arc::new(StreamHealth::new(config.policy.durability(), stream.shards()));
    let deps = Deps {
        stream,
        store,
        stream_health,
        check_periods: CheckPeriods::WORKER,
        settings: Arc::new(config.settings),
    };
    stream_worker::settlement::check(&*deps.store, &deps.settings).await?;
    let readiness = stream_worker::readiness::check(deps.clone(), stopped.clone());
    // Until the last transaction is finished, the listener tells that the worker is stopping.
    let (end_scrapes, scrapes_end) = oneshot::channel::<()>();
    let scrapes = tokio::spawn(scrape::serve(scraper, handle, readiness, async move {
        // Dropping the sender ends them, too.
        scrapes_end.await.ok();
    }));
    let worker = tokio::spawn(stream_worker::run(deps, stopped));
    stop_requested.await;
    tracing::info!("stop requested; finishing the transactions under way");
    stop.send_replace(true);
    worker.await?;
    drop(end_scrapes);
    scrapes.await?;
    tracing::info!("stopped");
    Ok(())
}
