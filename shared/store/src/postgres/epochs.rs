//! The recorded epoch of each shard of the stream, and with them the number of shards and whether its Redis
//! had replicas.

use deadpool_postgres::Client;

use crate::StoreError;
use millrace_event::Epoch;

pub(super) async fn epoch(client: &Client, shard: u16) -> Result<Option<Epoch>, StoreError> {
    let recorded = "SELECT epoch FROM stream_epochs WHERE shard = $1";
    Ok(client.query_opt(recorded, &[&i32::from(shard)]).await?.map(|row| row.get(0)))
}

pub(super) async fn shards_recorded(client: &Client) -> Result<u16, StoreError> {
    let shards = "SELECT coalesce(max(shard) + 1, 0) FROM stream_epochs";
    let shards: i32 = client.query_one(shards, &[]).await?.get(0);
    Ok(u16::try_from(shards).unwrap_or(u16::MAX))
}

/// Compare and set: of two processes that both read `old`, only one succeeds. When it returns, every write
/// under the old epoch is committed or will be refused: a write locks positions before it reads the epoch.
pub(super) async fn replace(
    client: &mut Client,
    shard: u16,
    old: Option<Epoch>,
    new: Epoch,
) -> Result<bool, StoreError> {
    let shard = i32::from(shard);
    let transaction = client.transaction().await?;
    transaction.batch_execute("LOCK TABLE stream_positions IN SHARE MODE").await?;
    let changed = match old {
        None => {
            let first = "INSERT INTO stream_epochs (shard, epoch) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            transaction.execute(first, &[&shard, &new]).await?
        }
        Some(old) => {
            let next =
                "UPDATE stream_epochs SET epoch = $2, changed_at = now() WHERE shard = $1 AND epoch = $3";
            transaction.execute(next, &[&shard, &new, &old]).await?
        }
    };
    transaction.commit().await?;
    Ok(changed == 1)
}

pub(super) async fn shards_with_replicas(client: &Client) -> Result<Vec<u16>, StoreError> {
    let shards = "SELECT shard FROM stream_epochs WHERE has_replicas ORDER BY shard";
    let shards = client.query(shards, &[]).await?;
    Ok(shards.iter().filter_map(|row| u16::try_from(row.get::<_, i32>(0)).ok()).collect())
}

pub(super) async fn record_replicas(client: &Client, shard: u16) -> Result<bool, StoreError> {
    let record = "UPDATE stream_epochs SET has_replicas = true WHERE shard = $1";
    Ok(client.execute(record, &[&i32::from(shard)]).await? == 1)
}

/// Replaces the records of all shards, and forgets the positions of the old ones.
pub(super) async fn replace_shards(
    client: &mut Client,
    recorded: &[Option<Epoch>],
    shards: u16,
) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    // No process can record an epoch until this transaction ends.
    transaction.batch_execute("LOCK TABLE stream_epochs IN EXCLUSIVE MODE").await?;
    let rows = transaction.query("SELECT shard, epoch FROM stream_epochs ORDER BY shard", &[]).await?;
    let found = rows.iter().map(|row| (row.get::<_, i32>(0), row.get::<_, Epoch>(1)));
    let expected = (0..).zip(recorded).filter_map(|(shard, epoch)| Some((shard, (*epoch)?)));
    if !found.eq(expected) {
        return Ok(false);
    }
    let replace = "
        WITH old AS (DELETE FROM stream_epochs RETURNING has_replicas),
             positions AS (DELETE FROM stream_positions)
        SELECT coalesce(bool_or(has_replicas), false) FROM old";
    let has_replicas: bool = transaction.query_one(replace, &[]).await?.get(0);
    let insert = "INSERT INTO stream_epochs (shard, epoch, has_replicas)
                  SELECT shard, gen_random_uuid(), $2 FROM generate_series(0, $1 - 1) shard";
    transaction.execute(insert, &[&i32::from(shards), &has_replicas]).await?;
    transaction.commit().await?;
    Ok(true)
}
