//! The servers as every subject gets them: durable, set up as the README advises, and PostgreSQL with Millrace's tables.

use std::time::Duration;

use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{Ledger, Operators, UpkeepPolicy};
use testkit::{Postgres, Redis, ServerOptions};

use super::{KEY, PROJECT, Place};
use crate::failure::Failure;

/// On top of the defaults, for every subject and ceiling alike; `fsync` and `synchronous_commit` stay on.
pub const POSTGRES_SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "1GB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "15min"),
    // Pages go to the disk as they are written. Otherwise the kernel lets them gather, and whoever syncs next waits for all.
    ("backend_flush_after", "1MB"),
];

/// On top of what makes it durable. Nearly all of the file goes within seconds and is compressed already: it need not be
/// written anew every few seconds, nor compressed.
pub const REDIS_SETTINGS: &[(&str, &str)] =
    &[("auto-aof-rewrite-min-size", "256mb"), ("rdbcompression", "no")];

/// Starts a PostgreSQL.
pub async fn postgres(place: Place<'_>) -> Postgres {
    let options =
        ServerOptions { settings: POSTGRES_SETTINGS, folder: place.folder, ..ServerOptions::default() };
    Postgres::start_options(options).await
}

/// Starts a Redis.
pub async fn redis() -> Redis {
    Redis::start_with(REDIS_SETTINGS).await
}

/// Makes the tables, today's partitions, and a project whose plan never refuses; returns the project's number. What is
/// there already stays.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn prepared_table(server: &Postgres) -> Result<i64, Failure> {
    let config = server.config();
    let store = PostgresStore::new(PostgresOptions { config, pool_size: 1, application: "bench" });
    store.migrate().await?;
    let policy = UpkeepPolicy {
        retention_days: None,
        ledger_days: 40,
        oldest_pending_ms: None,
        transaction_age_max: Duration::from_secs(60),
    };
    store.upkeep(&policy).await?;
    let client = server.connect().await;
    client.batch_execute(UNLIMITED).await?;
    if client.query_opt(FIND_PROJECT, &[&PROJECT]).await?.is_none() {
        store.create_project(PROJECT, "enterprise", Some(KEY), false).await?;
    }
    Ok(client.query_one(FIND_PROJECT, &[&PROJECT]).await?.get(0))
}

const FIND_PROJECT: &str = "SELECT project_id FROM projects WHERE name = $1";
/// A benchmark measures the machine, not the plan. The rate is checked all the same.
pub(super) const UNLIMITED: &str =
    "UPDATE plans SET requests_per_minute = 2000000000, burst = 2000000000 WHERE name = 'enterprise'";
