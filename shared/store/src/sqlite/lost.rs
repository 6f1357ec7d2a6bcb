//! How far the stream was written, and which acknowledged batches it lost.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::clock::{moment, now_us};
use super::epochs;
use crate::{LostHour, StoreError, StreamRecord};
use millrace_event::plan::ProjectId;
use millrace_event::{AcknowledgedBatch, BatchId, EntryId};

const IN_LEDGER: &str = "SELECT EXISTS (SELECT 1 FROM batches WHERE batch_id = ?1 AND received_at >= ?2)";

pub(super) fn stream_record(connection: &Connection, shard: u16) -> Result<StreamRecord, StoreError> {
    let position = "SELECT entry_ms, entry_seq FROM stream_positions WHERE shard = ?1";
    let position = connection.query_row(position, [shard], |row| {
        let part = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        Ok(EntryId { ms: part(0)?, seq: part(1)? })
    });
    let position = position.optional()?.unwrap_or_default();
    Ok(StreamRecord { epoch: epochs::epoch(connection, shard)?, position })
}

/// Records that entries up to this one are written.
pub(super) fn advance(connection: &Connection, shard: u16, entry: EntryId) -> Result<(), rusqlite::Error> {
    let advance = "
        INSERT INTO stream_positions AS p (shard, entry_ms, entry_seq) VALUES (?1, ?2, ?3)
        ON CONFLICT (shard) DO UPDATE SET entry_ms = excluded.entry_ms, entry_seq = excluded.entry_seq
         WHERE (p.entry_ms, p.entry_seq) < (excluded.entry_ms, excluded.entry_seq)";
    let mut advance = connection.prepare_cached(advance)?;
    advance.execute(params![shard, entry.ms.cast_signed(), entry.seq.cast_signed()]).map(drop)
}

pub(super) fn not_in_ledger(
    connection: &Connection,
    batches: &[AcknowledgedBatch],
) -> Result<Vec<AcknowledgedBatch>, StoreError> {
    let mut in_ledger = connection.prepare_cached(IN_LEDGER)?;
    let mut absent = Vec::new();
    for batch in batches {
        let key = params![batch.batch_id.as_bytes(), received_us(batch)];
        if !in_ledger.query_row(key, |row| row.get::<_, bool>(0))? {
            absent.push(*batch);
        }
    }
    Ok(absent)
}

pub(super) fn record(
    connection: &mut Connection,
    shard: u16,
    batches: &[AcknowledgedBatch],
) -> Result<Vec<BatchId>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut recorded = Vec::new();
    {
        let mut add = transaction.prepare_cached(
            "INSERT INTO lost_batches (batch_id, project_id, events, received_at, shard, found_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        )?;
        for batch in batches {
            let id = batch.batch_id.as_bytes();
            let row = params![id, batch.project.0, batch.count, received_us(batch), shard, now_us()];
            if add.execute(row)? == 1 {
                recorded.push(batch.batch_id);
            }
        }
    }
    transaction.commit()?;
    Ok(recorded)
}

pub(super) fn by_hour(connection: &Connection) -> Result<Vec<LostHour>, StoreError> {
    let mut hours = connection.prepare_cached(
        "SELECT project_id, received_at / 3600000000 * 3600000000 AS hour, count(*), sum(events),
                reviewed_at IS NOT NULL AS reviewed
           FROM lost_batches l
          WHERE NOT EXISTS (SELECT 1 FROM batches b
                             WHERE b.batch_id = l.batch_id AND b.received_at >= l.received_at)
          GROUP BY project_id, hour, reviewed ORDER BY project_id, hour, reviewed",
    )?;
    let rows = hours.query_map([], |row| {
        Ok(LostHour {
            project: ProjectId(row.get(0)?),
            hour: moment(row.get(1)?),
            batches: row.get(2)?,
            events: row.get(3)?,
            reviewed: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn review(connection: &Connection) -> Result<u64, StoreError> {
    let review = "UPDATE lost_batches SET reviewed_at = ?1 WHERE reviewed_at IS NULL";
    Ok(connection.execute(review, [now_us()])? as u64)
}

fn received_us(batch: &AcknowledgedBatch) -> i64 {
    batch.id.ms.cast_signed().saturating_mul(1_000)
}
