//! Applies the migrations of the schema.

use rusqlite::{Connection, Error, TransactionBehavior, params};

use crate::StoreError;
use std::collections::HashMap;

use crate::migration::{self, Migration, migrations, missing};

const CREATE_LIST: &str = "
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version    INTEGER PRIMARY KEY,
        name       TEXT NOT NULL,
        sha256     BLOB NOT NULL,
        applied_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
    ) STRICT";

const MIGRATIONS: &[Migration] = migrations! { "sql/sqlite":
    1 "0001_foundation",
    2 "0002_key_rotation",
    3 "0003_redrive",
    4 "0004_readable",
    5 "0005_edge",
    6 "0006_managed",
    9 "0009_store_ip",
    10 "0010_meters",
    11 "0011_cancellations",
    12 "0012_limits",
    13 "0013_thresholds",
    14 "0014_admin_keys",
    15 "0015_erasures",
};

/// Applies what is missing, all or nothing.
pub(super) fn migrate(connection: &mut Connection) -> Result<Vec<String>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(CREATE_LIST)?;
    let applied = applied(&transaction)?;
    let mut names = Vec::new();
    for migration in missing(MIGRATIONS, &applied)? {
        transaction.execute_batch(migration.sql)?;
        let insert = "INSERT INTO schema_migrations (version, name, sha256) VALUES (?1, ?2, ?3)";
        transaction.execute(insert, params![migration.version, migration.name, migration.digest()])?;
        names.push(migration.name.to_owned());
    }
    transaction.commit()?;
    Ok(names)
}

/// Checks that no migration is missing.
pub(super) fn check(connection: &Connection) -> Result<(), StoreError> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'schema_migrations')";
    let applied = match connection.query_row(exists, [], |row| row.get::<_, bool>(0))? {
        true => applied(connection)?,
        false => HashMap::new(),
    };
    migration::check(MIGRATIONS, &applied)
}

fn applied(connection: &Connection) -> Result<HashMap<i32, Vec<u8>>, Error> {
    let mut select = connection.prepare("SELECT version, sha256 FROM schema_migrations")?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Whether migrations are missing. SQLite reports a missing table with the same code as any other statement
/// that it cannot prepare, so this tells the two apart.
pub(super) fn is_outdated(connection: &Connection) -> Result<bool, Error> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'schema_migrations')";
    if !connection.query_row(exists, [], |row| row.get::<_, bool>(0))? {
        return Ok(true);
    }
    let version = "SELECT coalesce(max(version), 0) FROM schema_migrations";
    let version: i32 = connection.query_row(version, [], |row| row.get(0))?;
    Ok(MIGRATIONS.iter().any(|migration| migration.version > version))
}
