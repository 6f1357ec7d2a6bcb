//! Schema migrations: numbered SQL files, applied in order, each once. This module finds the missing ones;
//! the store applies them.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::error::StoreError;

/// A file in `sql/`. A released file is never changed: a later change of the schema is a new migration.
pub(super) struct Migration {
    pub(super) version: i32,
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// Lists migrations by version and file name, in a folder of the repository.
macro_rules! migrations {
    ($folder:literal: $($version:literal $name:literal),+ $(,)?) => {
        &[$($crate::migration::Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../", $folder, "/", $name, ".sql")),
        }),+]
    };
}
pub(super) use migrations;

impl Migration {
    /// SHA-256 of the file.
    pub(super) fn digest(&self) -> Vec<u8> {
        Sha256::digest(self.sql.as_bytes()).to_vec()
    }
}

/// The migrations that are missing, in order. `applied` has the digest of each applied version.
///
/// # Errors
/// [`StoreError::Invalid`] when an applied migration has another digest than its file.
pub(super) fn missing<'m>(
    migrations: &'m [Migration],
    applied: &HashMap<i32, Vec<u8>>,
) -> Result<Vec<&'m Migration>, StoreError> {
    let mut missing = Vec::new();
    for migration in migrations {
        match applied.get(&migration.version) {
            None => missing.push(migration),
            Some(digest) if *digest == migration.digest() => {}
            Some(_) => {
                let message = format!(
                    "migration {} was changed after it was applied to this database; use the release that applied it, or a \
                     newer one",
                    migration.name
                );
                return Err(StoreError::Invalid(message));
            }
        }
    }
    Ok(missing)
}

/// Checks that no migration is missing.
///
/// # Errors
/// [`StoreError::SchemaOutdated`], or as [`missing`].
pub(super) fn check(migrations: &[Migration], applied: &HashMap<i32, Vec<u8>>) -> Result<(), StoreError> {
    let names: Vec<_> = missing(migrations, applied)?.iter().map(|migration| migration.name).collect();
    match names[..] {
        [] => Ok(()),
        [one] => Err(StoreError::SchemaOutdated(format!("the migration {one} is missing"))),
        _ => Err(StoreError::SchemaOutdated(format!("the migrations {} are missing", names.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[Migration] = &[
        Migration { version: 1, name: "0001_first", sql: "CREATE TABLE a (b)" },
        Migration { version: 2, name: "0002_second", sql: "CREATE TABLE c (d)" },
    ];

    fn names(applied: &HashMap<i32, Vec<u8>>) -> Result<Vec<&'static str>, StoreError> {
        Ok(missing(LIST, applied)?.iter().map(|migration| migration.name).collect())
    }

    #[test]
    fn only_missing_migrations_are_returned_and_in_order() {
        assert_eq!(names(&HashMap::new()).unwrap(), ["0001_first", "0002_second"]);
        assert_eq!(names(&HashMap::from([(1, LIST[0].digest())])).unwrap(), ["0002_second"]);
        let all = LIST.iter().map(|migration| (migration.version, migration.digest())).collect();
        assert_eq!(names(&all).unwrap(), [""; 0]);
    }

    #[test]
    fn a_migration_that_was_changed_after_it_was_applied_is_refused() {
        let refused = names(&HashMap::from([(1, LIST[1].digest())])).unwrap_err();
        assert!(refused.to_string().contains("0001_first"), "{refused}");
    }
}
