//! The schema: numbered migrations, applied in order, each once.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use crate::StoreError;

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
        sql: include_str!("../../../../sql/sqlite/0001_foundation.sql"),
    },
    Migration {
        version: 2,
        name: "0002_key_rotation",
        sql: include_str!("../../../../sql/sqlite/0002_key_rotation.sql"),
    },
    Migration {
        version: 3,
        name: "0003_redrive",
        sql: include_str!("../../../../sql/sqlite/0003_redrive.sql"),
    },
    Migration {
        version: 4,
        name: "0004_readable",
        sql: include_str!("../../../../sql/sqlite/0004_readable.sql"),
    },
];

const APPLIED: &str = "
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version    INTEGER PRIMARY KEY,
        name       TEXT NOT NULL,
        sha256     BLOB NOT NULL,
        applied_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
    ) STRICT";

/// Applies what is missing, all or nothing.
pub(super) fn migrate(connection: &mut Connection) -> Result<Vec<String>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(APPLIED)?;
    let mut applied = Vec::new();
    for migration in MIGRATIONS {
        let digest = Sha256::digest(migration.sql.as_bytes()).to_vec();
        let known = "SELECT sha256 FROM schema_migrations WHERE version = ?1";
        let known: Option<Vec<u8>> =
            transaction.query_row(known, [migration.version], |row| row.get(0)).optional()?;
        match known {
            Some(known) if known == digest => continue,
            Some(_) => {
                let message = format!("migration {} was changed after it was applied here", migration.name);
                return Err(StoreError::Invalid(message));
            }
            None => {}
        }
        transaction.execute_batch(migration.sql)?;
        let note = "INSERT INTO schema_migrations (version, name, sha256) VALUES (?1, ?2, ?3)";
        transaction.execute(note, params![migration.version, migration.name, digest])?;
        applied.push(migration.name.to_owned());
    }
    transaction.commit()?;
    Ok(applied)
}
