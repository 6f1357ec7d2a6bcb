//! The servers of subjects and ceilings: durable, with the settings that docs/operations.md recommends, and
//! PostgreSQL with Millrace's schema and projects.

use std::path::Path;
use std::time::Duration;

use millrace_event::meter::{Aggregation, Group, MeterDefinition};
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{
    JsonColumns, KeyOptions, Ledger, MeterStart, Meters, Operators, PolicyChange, UpkeepPolicy,
};
use testkit::{Postgres, Redis, ServerOptions};

use crate::error::BenchError;

/// Settings that differ from the defaults, for all subjects and ceilings. `fsync` and `synchronous_commit`
/// stay on.
pub const POSTGRES_SETTINGS: &[(&str, &str)] = &[
    // A table grows by pages of zeros, which stay dirty in the kernel until PostgreSQL evicts the page. An
    // fsync of Redis on the same disk can wait for all of them, so they leave the buffers early, and are
    // written out at once.
    ("shared_buffers", "128MB"),
    ("bgwriter_delay", "20ms"),
    ("bgwriter_lru_maxpages", "1000"),
    ("backend_flush_after", "1MB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "15min"),
    // A new file of the write-ahead log is not filled with zeros. The servers are new, so all of their files
    // are, and every 16 MB the fsync of zeros would hold up that of Redis on the same disk. A server that has
    // run for some time uses its files again.
    ("wal_init_zero", "off"),
];

/// Settings in addition to those that make Redis durable. Nearly all of the append-only file is obsolete
/// after seconds, and entries are compressed: frequent rewrites and compression would only cost time.
pub const REDIS_SETTINGS: &[(&str, &str)] =
    &[("auto-aof-rewrite-min-size", "256mb"), ("rdbcompression", "no")];

/// Starts PostgreSQL with its data in `data_folder`, or in a temporary folder when it is `None`.
pub async fn postgres(data_folder: Option<&Path>) -> Postgres {
    postgres_with(data_folder, &[]).await
}

/// As [`postgres`], with more settings.
pub(super) async fn postgres_with(data_folder: Option<&Path>, more: &[(&str, &str)]) -> Postgres {
    let settings = [POSTGRES_SETTINGS, more].concat();
    let options = ServerOptions { settings: &settings, folder: data_folder, ..ServerOptions::default() };
    Postgres::start_options(options).await
}

pub async fn redis() -> Redis {
    Redis::start_with(REDIS_SETTINGS).await
}

/// As [`prepare_projects`], with one project and jsonb columns.
///
/// # Errors
/// When PostgreSQL rejects a statement.
pub async fn prepare_database(server: &Postgres) -> Result<i64, BenchError> {
    Ok(prepare_projects(server, JsonColumns::Jsonb, 1).await?[0])
}

/// The key of the project with this number, from 0. Clients of every subject on PostgreSQL send it.
pub fn key(number: usize) -> String {
    format!("bench-key-of-the-shop-{:02}", number + 1)
}

/// Creates the schema, today's partitions, and projects without limits, and returns the projects' ids. Keeps
/// what exists already.
///
/// # Errors
/// When PostgreSQL rejects a statement.
pub async fn prepare_projects(
    server: &Postgres,
    columns: JsonColumns,
    projects: usize,
) -> Result<Vec<i64>, BenchError> {
    let config = server.config();
    let store =
        PostgresStore::new(PostgresOptions { source: config.into(), pool_size: 1, application: "bench" });
    store.migrate_with(columns).await?;
    let policy = UpkeepPolicy {
        retention_days: None,
        ledger_days: 40,
        oldest_pending_ms: None,
        transaction_age_max: Duration::from_secs(60),
    };
    store.upkeep(&policy).await?;
    let client = server.connect().await;
    client.batch_execute(UNLIMITED).await?;
    let mut ids = Vec::with_capacity(projects);
    for number in 0..projects {
        let name = format!("shop {}", number + 1);
        if client.query_opt(FIND_PROJECT, &[&name]).await?.is_none() {
            let key = KeyOptions { chosen: Some(key(number)), ..KeyOptions::default() };
            store.create_project(&name, "enterprise", &PolicyChange::default(), &key).await?;
        }
        ids.push(client.query_one(FIND_PROJECT, &[&name]).await?.get(0));
    }
    Ok(ids)
}

/// Creates three meters of the first project: a count by group, a sum, and a count of different values.
///
/// # Errors
/// When PostgreSQL rejects a statement.
pub(super) async fn create_meters(server: &Postgres) -> Result<(), BenchError> {
    let store = PostgresStore::new(PostgresOptions {
        source: server.config().into(),
        pool_size: 1,
        application: "bench",
    });
    let path = |text: &str| text.parse().map_err(|error| BenchError::new(format!("{error}")));
    let referrer = Group { name: "referrer".to_owned(), path: path("$.referrer")? };
    for (aggregation, value, groups) in [
        (Aggregation::Count, None, vec![referrer]),
        (Aggregation::Sum, Some(path("$.price")?), Vec::new()),
        (Aggregation::UniqueCount, Some(path("$.product")?), Vec::new()),
    ] {
        let (slug, event) = (aggregation.to_string(), "page_view".to_owned());
        let definition = MeterDefinition { slug, event, aggregation, value, groups };
        store.create_meter("shop 1", &definition, MeterStart::Now).await?;
    }
    Ok(())
}

const FIND_PROJECT: &str = "SELECT project_id FROM projects WHERE name = $1";
/// Raises the plan's limits beyond any rate of the benchmark. The product still checks them for each request.
pub(super) const UNLIMITED: &str =
    "UPDATE plans SET requests_per_minute = 2000000000, burst = 2000000000 WHERE name = 'enterprise'";
