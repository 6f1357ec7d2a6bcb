//! The schema: numbered migrations, applied in order, each once.

use sha2::{Digest, Sha256};
use tokio_postgres::Config;

use super::session::Session;
use super::upkeep;
use crate::{StoreError, UpkeepPolicy};

/// Whoever migrates holds this advisory lock ("migr").
const TURN: i64 = 0x6d69_6772;
const SETTINGS: &str = "SET lock_timeout = '60s'; SET statement_timeout = 0;";

struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

/// Every migration there is. One that has been released is never changed: what comes later is a new one.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "0001_foundation",
        sql: include_str!("../../../../sql/0001_foundation.sql"),
    },
    Migration {
        version: 2,
        name: "0002_key_rotation",
        sql: include_str!("../../../../sql/0002_key_rotation.sql"),
    },
    Migration { version: 3, name: "0003_redrive", sql: include_str!("../../../../sql/0003_redrive.sql") },
    Migration { version: 4, name: "0004_readable", sql: include_str!("../../../../sql/0004_readable.sql") },
];

/// Applies what is missing, all or nothing, and makes the first partitions.
pub(super) async fn migrate(config: &Config, application: &str) -> Result<Vec<String>, StoreError> {
    let mut session = Session::open(config, application, SETTINGS).await?;
    let transaction = session.client_mut().transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&TURN]).await?;
    transaction
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                 version    integer PRIMARY KEY,
                 name       text NOT NULL,
                 sha256     bytea NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    let mut applied = Vec::new();
    for migration in MIGRATIONS {
        let digest = Sha256::digest(migration.sql.as_bytes()).to_vec();
        let known = "SELECT sha256 FROM schema_migrations WHERE version = $1";
        match transaction.query_opt(known, &[&migration.version]).await? {
            Some(row) if row.get::<_, Vec<u8>>(0) == digest => continue,
            Some(_) => {
                let message = format!("migration {} was changed after it was applied here", migration.name);
                return Err(StoreError::Invalid(message));
            }
            None => {}
        }
        transaction.batch_execute(migration.sql).await?;
        let note = "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)";
        transaction.execute(note, &[&migration.version, &migration.name, &digest]).await?;
        applied.push(migration.name.to_owned());
    }
    transaction.commit().await?;
    let keep_all = UpkeepPolicy {
        retention_days: None,
        ledger_days: u32::MAX,
        oldest_pending_ms: Some(0),
        transaction_age_max: std::time::Duration::MAX,
    };
    if !applied.is_empty() {
        let now_us = upkeep::now_us(&session).await?;
        upkeep::make_partitions(&mut session, &keep_all, now_us).await?;
    }
    Ok(applied)
}
