//! `ingest-api` and `stream-worker` on Redis and PostgreSQL.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Parser;
use ingest_api::{Deps, Scrape, routes};
use millrace_address::Secret;
use millrace_reconcile::health::StreamHealth;
use millrace_reconcile::keeper::CheckPeriods;
use millrace_settings::{Policy, Servers};
use millrace_store::SharedStore;
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_stream::SharedStream;
use millrace_stream::redis::RedisStream;
use millrace_telemetry::metrics::{self, Program};
use millrace_telemetry::{process, scrape};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::mutant::Mutant;
use crate::redis::Redis;
use crate::wrap::{Direct, wrap};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Connections to Redis and PostgreSQL besides those of lanes.
const CONNECTIONS: usize = 2;

/// The settings of the program that this one replaces, from the environment.
pub fn settings<S: Parser>() -> Result<S, Failure> {
    let matches = millrace_settings::matches(S::command(), ["mutant".into()])?;
    Ok(S::from_arg_matches(&matches)?)
}

pub async fn serve_api(mutant: Option<Mutant>) -> Result<(), Failure> {
    let config = settings::<ingest_api::config::Config>()?;
    process::start_logging(config.policy.log_format);
    let (stream, store) = open(config.servers, &config.policy, "millrace-ingest-api", mutant)?;
    let listener = TcpListener::bind(config.http.listen).await?;
    let scraper = bind_metrics(config.http.metrics).await?;
    let handle = metrics::install(ingest_api::metrics::TABLES, &[Program::Api], &routes::names())?;
    let stream_health = Arc::new(StreamHealth::new(config.policy.durability(), stream.shards()));
    let deps = Deps {
        stream,
        store,
        stream_health,
        check_periods: Some(CheckPeriods::API),
        status_page: config.http.status_page,
        trusted_proxies: config.http.trusted_proxies,
        limits: config.http.limits,
    };
    let scrape = Scrape { listener: scraper, handle };
    Ok(ingest_api::run(listener, Some(scrape), deps, process::stop_requested()).await?)
}

pub async fn drain(mutant: Option<Mutant>) -> Result<(), Failure> {
    let config = settings::<stream_worker::config::Config>()?;
    process::start_logging(config.policy.log_format);
    let (stream, store) = open(config.servers, &config.policy, "millrace-worker", mutant)?;
    let scraper = bind_metrics(config.metrics).await?;
    let handle = metrics::install(stream_worker::metrics::TABLES, &[Program::Worker], &[])?;
    let (stop, stopped) = watch::channel(false);
    let stream_health = Arc::new(StreamHealth::new(config.policy.durability(), stream.shards()));
    let deps = stream_worker::Deps {
        stream,
        store,
        stream_health,
        check_periods: CheckPeriods::WORKER,
        settings: Arc::new(config.settings),
    };
    let readiness = stream_worker::readiness::check(deps.clone(), stopped.clone());
    tokio::spawn(scrape::serve(scraper, handle, readiness, std::future::pending()));
    let work = tokio::spawn(stream_worker::run(deps, stopped));
    process::stop_requested().await;
    stop.send_replace(true);
    Ok(work.await?)
}

fn open(
    servers: Servers,
    policy: &Policy,
    application: &'static str,
    mutant: Option<Mutant>,
) -> Result<(SharedStream, SharedStore), Failure> {
    let text = |url: &Option<Secret>| url.as_ref().map_or_else(|| Ok(String::new()), Secret::read);
    // Patches talk to no server directly, and their installation may have more than one Redis.
    let redis = match mutant {
        Some(_) => Some(Arc::new(Redis::new(&text(&servers.redis_url)?)?)),
        None => None,
    };
    let direct = Direct { redis, database: Some(text(&servers.database_url)?.parse()?) };
    let stream = RedisStream::new(servers.redis_options(policy, CONNECTIONS))?;
    let options = PostgresOptions { source: servers.postgres_source(), pool_size: CONNECTIONS, application };
    Ok(wrap(stream, PostgresStore::new(options), mutant, direct))
}

pub async fn bind_metrics(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!("metrics on http://{}/metrics", listener.local_addr()?);
    Ok(listener)
}
