//! Keys of programs that manage the installation over HTTP.

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::copy::Instant;
use super::deadline::{SHORT, within};
use super::store::PostgresStore;
use crate::admin_keys::{USE_NOTED_EVERY_S, UnsavedAdminKey};
use crate::creation::key_is_taken;
use crate::{AdminKey, AdminKeyInfo, AdminKeys, NewAdminKey, StoreError};

#[async_trait]
impl AdminKeys for PostgresStore {
    async fn create_admin_key(&self, name: &str, chosen: Option<&str>) -> Result<NewAdminKey, StoreError> {
        let new = UnsavedAdminKey::new(name, chosen)?;
        let insert = "INSERT INTO admin_keys (name, key_hash) VALUES ($1, $2) RETURNING admin_key_id";
        let create = async {
            match self.client().await?.query_one(insert, &[&new.name, &new.hash().as_slice()]).await {
                Ok(row) => Ok(row.get(0)),
                Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Err(key_is_taken()),
                Err(error) => Err(error.into()),
            }
        };
        let admin_key_id = within(SHORT, create).await?;
        Ok(new.into_new_key(admin_key_id))
    }

    async fn admin_keys(&self) -> Result<Vec<AdminKeyInfo>, StoreError> {
        let all =
            "SELECT admin_key_id, name, created_at, last_used_at, revoked_at FROM admin_keys ORDER BY 1";
        let time = |row: &Row, column: usize| row.get::<_, Option<Instant>>(column).map(Into::into);
        let info = |row: &Row| AdminKeyInfo {
            admin_key_id: row.get(0),
            name: row.get(1),
            created_at: row.get::<_, Instant>(2).into(),
            last_used_at: time(row, 3),
            revoked_at: time(row, 4),
        };
        within(SHORT, async { Ok(self.client().await?.query(all, &[]).await?.iter().map(info).collect()) })
            .await
    }

    async fn revoke_admin_key(&self, admin_key_id: i64) -> Result<bool, StoreError> {
        let revoke =
            "UPDATE admin_keys SET revoked_at = now() WHERE admin_key_id = $1 AND revoked_at IS NULL";
        within(SHORT, async { Ok(self.client().await?.execute(revoke, &[&admin_key_id]).await? == 1) }).await
    }

    async fn admin_key(&self, key_hash: &[u8; 32]) -> Result<Option<AdminKey>, StoreError> {
        let find = "
            SELECT admin_key_id, name, key_hash, coalesce(last_used_at < now() - $2 * interval '1 second', true)
              FROM admin_keys WHERE key_hash = $1 AND revoked_at IS NULL";
        let touch = "UPDATE admin_keys SET last_used_at = now() WHERE admin_key_id = $1";
        let look = async {
            let client = self.client().await?;
            let every_s = USE_NOTED_EVERY_S as f64;
            let Some(row) = client.query_opt(find, &[&key_hash.as_slice(), &every_s]).await? else {
                return Ok(None);
            };
            let admin_key_id: i64 = row.get(0);
            if row.get(3) {
                client.execute(touch, &[&admin_key_id]).await?;
            }
            let key_hash = row.get::<_, &[u8]>(2).try_into().expect("the table checks the length");
            Ok(Some(AdminKey { admin_key_id, name: row.get(1), key_hash }))
        };
        within(SHORT, look).await
    }
}
