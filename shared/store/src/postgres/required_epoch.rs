//! The epoch that a shard must still have when entries that were read under it are committed.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Statement};

use super::setback::Setback;
use millrace_event::Epoch;

/// Fails unless the shard has this epoch.
const REQUIRE_EPOCH: &str = "SELECT 1 / count(*) FROM stream_epochs WHERE shard = $1 AND epoch = $2";

#[derive(Clone, Copy)]
pub(super) struct RequiredEpoch {
    pub(super) shard: u16,
    pub(super) epoch: Epoch,
}

impl RequiredEpoch {
    pub(super) async fn prepare(client: &Client) -> Result<Statement, Error> {
        client.prepare(REQUIRE_EPOCH).await
    }

    /// Fails the transaction unless the shard has this epoch. Call it in the transaction after positions were
    /// advanced: an epoch is replaced only while no transaction has a lock on them.
    pub(super) async fn check(self, client: &Client, statement: &Statement) -> Result<(), Setback> {
        let Self { shard, epoch } = self;
        match client.execute(statement, &[&i32::from(shard), &epoch]).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => {
                Err(Setback::EpochReplaced { shard })
            }
            Err(error) => Err(error.into()),
        }
    }
}
