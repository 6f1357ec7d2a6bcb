//! Applies the migrations of the schema.

use std::collections::HashMap;

use tokio_postgres::Transaction;

use super::connector::Connector;
use super::json_columns;
use super::session::Session;
use super::upkeep;
use crate::migration::{self, Migration, migrations, missing};
use crate::{JsonColumns, StoreError, UpkeepPolicy};

/// The advisory lock of the process that migrates ("migr").
const LOCK_ID: i64 = 0x6d69_6772;
const SETTINGS: &str = "SET lock_timeout = '60s'; SET statement_timeout = 0;";
const CREATE_LIST: &str = "
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        sha256     bytea NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now())";

const MIGRATIONS: &[Migration] = migrations! { "sql":
    1 "0001_foundation",
    2 "0002_key_rotation",
    3 "0003_redrive",
    4 "0004_readable",
    5 "0005_edge",
    6 "0006_managed",
    7 "0007_json_columns",
    8 "0008_groups",
    9 "0009_store_ip",
    10 "0010_meters",
    11 "0011_cancellations",
    12 "0012_limits",
    13 "0013_thresholds",
    14 "0014_admin_keys",
    15 "0015_erasures",
};

/// Applies what is missing, all or nothing, and then creates the first partitions. A new database gets JSON
/// columns of the type `columns`, and one that was installed before must have them.
pub(super) async fn migrate(
    connector: &Connector,
    columns: Option<JsonColumns>,
) -> Result<Vec<String>, StoreError> {
    let mut session = Session::open(connector, SETTINGS).await?;
    let transaction = session.client_mut().transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK_ID]).await?;
    transaction.batch_execute(CREATE_LIST).await?;
    let applied = applied(&transaction).await?;
    match columns {
        Some(columns) if applied.is_empty() => json_columns::choose(&transaction, columns).await?,
        Some(columns) => json_columns::check(&transaction, columns).await?,
        None => {}
    }
    let mut names = Vec::new();
    for migration in missing(MIGRATIONS, &applied)? {
        transaction.batch_execute(migration.sql).await?;
        let insert = "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)";
        transaction.execute(insert, &[&migration.version, &migration.name, &migration.digest()]).await?;
        names.push(migration.name.to_owned());
    }
    transaction.commit().await?;
    let keep_all = UpkeepPolicy {
        retention_days: None,
        ledger_days: u32::MAX,
        oldest_pending_ms: Some(0),
        transaction_age_max: std::time::Duration::MAX,
    };
    if !names.is_empty() {
        let now_us = upkeep::now_us(&session).await?;
        upkeep::make_partitions(&mut session, &keep_all, now_us).await?;
    }
    Ok(names)
}

/// Waits until no process migrates, and checks that no migration is missing.
pub(super) async fn check(connector: &Connector) -> Result<(), StoreError> {
    let mut session = Session::open(connector, SETTINGS).await?;
    let transaction = session.client_mut().transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock_shared($1)", &[&LOCK_ID]).await?;
    let exists = "SELECT to_regclass('schema_migrations') IS NOT NULL";
    let applied = match transaction.query_one(exists, &[]).await?.get(0) {
        true => applied(&transaction).await?,
        false => HashMap::new(),
    };
    migration::check(MIGRATIONS, &applied)
}

async fn applied(transaction: &Transaction<'_>) -> Result<HashMap<i32, Vec<u8>>, tokio_postgres::Error> {
    let applied = transaction.query("SELECT version, sha256 FROM schema_migrations", &[]).await?;
    Ok(applied.iter().map(|row| (row.get(0), row.get(1))).collect())
}
