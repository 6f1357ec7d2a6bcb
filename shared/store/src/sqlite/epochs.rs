//! The recorded epoch of each shard of the stream, and with them the number of shards and whether its Redis
//! had replicas.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use uuid::Uuid;

use crate::StoreError;
use millrace_event::Epoch;

pub(super) fn epoch(connection: &Connection, shard: u16) -> Result<Option<Epoch>, StoreError> {
    Ok(recorded(connection, shard)?)
}

/// As [`epoch`], with the error of the database.
pub(super) fn recorded(connection: &Connection, shard: u16) -> rusqlite::Result<Option<Epoch>> {
    let recorded = "SELECT epoch FROM stream_epochs WHERE shard = ?1";
    let epoch: Option<[u8; 16]> = connection.query_row(recorded, [shard], |row| row.get(0)).optional()?;
    Ok(epoch.map(Uuid::from_bytes))
}

pub(super) fn shards_recorded(connection: &Connection) -> Result<u16, StoreError> {
    let shards = "SELECT coalesce(max(shard) + 1, 0) FROM stream_epochs";
    Ok(connection.query_row(shards, [], |row| row.get(0))?)
}

/// Compare and set: of two processes that both read `old`, only one succeeds.
pub(super) fn replace(
    connection: &mut Connection,
    shard: u16,
    old: Option<Epoch>,
    new: Epoch,
) -> Result<bool, StoreError> {
    let changed = match old {
        None => {
            let first = "INSERT INTO stream_epochs (shard, epoch) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            connection.execute(first, params![shard, new.as_bytes()])?
        }
        Some(old) => {
            let next = "UPDATE stream_epochs SET epoch = ?2, changed_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
                         WHERE shard = ?1 AND epoch = ?3";
            connection.execute(next, params![shard, new.as_bytes(), old.as_bytes()])?
        }
    };
    Ok(changed == 1)
}

pub(super) fn shards_with_replicas(connection: &Connection) -> Result<Vec<u16>, StoreError> {
    let mut shards =
        connection.prepare("SELECT shard FROM stream_epochs WHERE has_replicas ORDER BY shard")?;
    let shards = shards.query_map([], |row| row.get(0))?;
    Ok(shards.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn record_replicas(connection: &mut Connection, shard: u16) -> Result<bool, StoreError> {
    let record = "UPDATE stream_epochs SET has_replicas = 1 WHERE shard = ?1";
    Ok(connection.execute(record, [shard])? == 1)
}

/// Replaces the records of all shards, and forgets the positions of the old ones.
pub(super) fn replace_shards(
    connection: &mut Connection,
    recorded: &[Option<Epoch>],
    shards: u16,
) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: Vec<(u16, [u8; 16])> = {
        let mut rows = transaction.prepare("SELECT shard, epoch FROM stream_epochs ORDER BY shard")?;
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
    };
    let expected = (0..).zip(recorded).filter_map(|(shard, epoch)| Some((shard, (*epoch)?.into_bytes())));
    if !found.into_iter().eq(expected) {
        return Ok(false);
    }
    transaction.execute("DELETE FROM stream_epochs", [])?;
    transaction.execute("DELETE FROM stream_positions", [])?;
    for shard in 0..shards {
        let insert = "INSERT INTO stream_epochs (shard, epoch) VALUES (?1, ?2)";
        transaction.execute(insert, params![shard, Uuid::new_v4().as_bytes()])?;
    }
    transaction.commit()?;
    Ok(true)
}
