//! The servers of subjects and ceilings: durable, with the settings that docs/operations.md recommends, and
//! PostgreSQL with Millrace's schema and a project.

use std::path::Path;
use std::time::Duration;

use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{KeyOptions, Ledger, Operators, PolicyChange, UpkeepPolicy};
use testkit::{Postgres, Redis, ServerOptions};

use crate::error::BenchError;

/// The key that clients of every subject on PostgreSQL send.
pub(super) const KEY: &str = "bench-key-of-the-shop-01";
/// The name of the key's project.
const PROJECT: &str = "shop";

/// Settings that differ from the defaults, for all subjects and ceilings. `fsync` and `synchronous_commit`
/// stay on.
pub const POSTGRES_SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "1GB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "15min"),
    // Dirty pages are written out early. Otherwise they accumulate in the kernel, and the next fsync waits
    // for all of them.
    ("backend_flush_after", "1MB"),
];

/// Settings in addition to those that make Redis durable. Nearly all of the append-only file is obsolete
/// after seconds, and entries are compressed: frequent rewrites and compression would only cost time.
pub const REDIS_SETTINGS: &[(&str, &str)] =
    &[("auto-aof-rewrite-min-size", "256mb"), ("rdbcompression", "no")];

/// Starts PostgreSQL with its data in `data_folder`, or in a temporary folder when it is `None`.
pub async fn postgres(data_folder: Option<&Path>) -> Postgres {
    let options =
        ServerOptions { settings: POSTGRES_SETTINGS, folder: data_folder, ..ServerOptions::default() };
    Postgres::start_options(options).await
}

pub async fn redis() -> Redis {
    Redis::start_with(REDIS_SETTINGS).await
}

/// Creates the schema, today's partitions, and a project without limits, and returns the project's id. Keeps
/// what exists already.
///
/// # Errors
/// When PostgreSQL rejects a statement.
pub async fn prepare_database(server: &Postgres) -> Result<i64, BenchError> {
    let config = server.config();
    let store =
        PostgresStore::new(PostgresOptions { source: config.into(), pool_size: 1, application: "bench" });
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
        store
            .create_project(
                PROJECT,
                "enterprise",
                &PolicyChange::default(),
                &KeyOptions { chosen: Some(KEY.to_owned()), ..KeyOptions::default() },
            )
            .await?;
    }
    Ok(client.query_one(FIND_PROJECT, &[&PROJECT]).await?.get(0))
}

const FIND_PROJECT: &str = "SELECT project_id FROM projects WHERE name = $1";
/// Raises the plan's limits beyond any rate of the benchmark. The product still checks them for each request.
pub(super) const UNLIMITED: &str =
    "UPDATE plans SET requests_per_minute = 2000000000, burst = 2000000000 WHERE name = 'enterprise'";
