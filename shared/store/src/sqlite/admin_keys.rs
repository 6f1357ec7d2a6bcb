//! Keys of programs that manage the installation over HTTP.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, params};

use super::clock::{moment, now_us};
use super::error::is_unique_violation;
use super::store::SqliteStore;
use crate::admin_keys::{USE_NOTED_EVERY_S, UnsavedAdminKey};
use crate::creation::key_is_taken;
use crate::{AdminKey, AdminKeyInfo, AdminKeys, NewAdminKey, StoreError};

#[async_trait]
impl AdminKeys for SqliteStore {
    async fn create_admin_key(&self, name: &str, chosen: Option<&str>) -> Result<NewAdminKey, StoreError> {
        let new = UnsavedAdminKey::new(name, chosen)?;
        self.write(move |connection| {
            let insert = "INSERT INTO admin_keys (name, key_hash) VALUES (?1, ?2) RETURNING admin_key_id";
            match connection.query_row(insert, params![new.name, new.hash()], |row| row.get(0)) {
                Ok(admin_key_id) => Ok(new.into_new_key(admin_key_id)),
                Err(error) if is_unique_violation(&error) => Err(key_is_taken()),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    async fn admin_keys(&self) -> Result<Vec<AdminKeyInfo>, StoreError> {
        let all =
            "SELECT admin_key_id, name, created_at, last_used_at, revoked_at FROM admin_keys ORDER BY 1";
        let info = |row: &Row<'_>| {
            Ok(AdminKeyInfo {
                admin_key_id: row.get(0)?,
                name: row.get(1)?,
                created_at: moment(row.get(2)?),
                last_used_at: row.get::<_, Option<i64>>(3)?.map(moment),
                revoked_at: row.get::<_, Option<i64>>(4)?.map(moment),
            })
        };
        self.read(move |connection| {
            Ok(connection.prepare(all)?.query_map([], info)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn revoke_admin_key(&self, admin_key_id: i64) -> Result<bool, StoreError> {
        let revoke = "UPDATE admin_keys SET revoked_at = ?2 WHERE admin_key_id = ?1 AND revoked_at IS NULL";
        self.write(move |connection| Ok(connection.execute(revoke, [admin_key_id, now_us()])? == 1)).await
    }

    async fn admin_key(&self, key_hash: &[u8; 32]) -> Result<Option<AdminKey>, StoreError> {
        let key_hash = *key_hash;
        let find = "SELECT admin_key_id, name, key_hash, last_used_at FROM admin_keys
                     WHERE key_hash = ?1 AND revoked_at IS NULL";
        let key = |row: &Row<'_>| {
            let key = AdminKey { admin_key_id: row.get(0)?, name: row.get(1)?, key_hash: row.get(2)? };
            Ok((key, row.get::<_, Option<i64>>(3)?))
        };
        let found =
            self.read(move |connection| Ok(connection.query_row(find, [key_hash], key).optional()?));
        let Some((key, last_used_us)) = found.await? else { return Ok(None) };
        if last_used_us.is_none_or(|last_us| last_us < now_us() - USE_NOTED_EVERY_S * 1_000_000) {
            let touch = "UPDATE admin_keys SET last_used_at = ?2 WHERE admin_key_id = ?1";
            let number = key.admin_key_id;
            self.write(move |connection| Ok(connection.execute(touch, [number, now_us()])?)).await?;
        }
        Ok(Some(key))
    }
}
