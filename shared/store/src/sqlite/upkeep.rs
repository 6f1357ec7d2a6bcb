//! Upkeep: removes data past its retention, prunes the ledger, and returns free space to the disk.
//!
//! Every step is a separate short transaction, so that writers run in between. Deleted rows are counted in
//! the transaction that deletes them: several processes may do upkeep concurrently, and the next round
//! continues where a killed process ended.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Error, TransactionBehavior, params};

use super::clock::{DAY_US, day_start, now_us};
use super::database::Database;
use super::meters;
use crate::limits::USAGE_DAYS;
use crate::rejections::{SAMPLES_KEPT, SOURCE_DAYS};
use crate::{StoreError, UpkeepPolicy, UpkeepReport};

/// Rows deleted in one transaction, at most: some hundredths of a second.
const CHUNK_ROWS: i64 = 5_000;
/// Chunks deleted from one table in one round, at most.
const CHUNKS_MAX: u32 = 2_000;
/// How long the id of an undated event is remembered: twice the promised 24 hours.
const UNDATED_US: i64 = 2 * DAY_US;
/// The ledger is kept at least this long: an `Idempotency-Key` is forgotten a day after its batch was
/// settled.
const LEDGER_DAYS_MIN: u32 = 2;
/// Free pages that are kept for the next events: 16 MiB.
const PAGES_KEPT: i64 = 2_048;
/// Pages returned to the disk in one transaction.
const CHUNK_PAGES: i64 = 1_024;
/// A longer retention is unlimited.
const DAYS_MAX: u32 = 1_000_000;
/// Reported instead of partitions created ahead, which SQLite does not have.
const DAYS_AHEAD: u32 = 366;

/// How old rows of a table are deleted.
#[derive(Clone, Copy)]
struct RetentionRule {
    /// Deletes at most ?2 rows older than ?1. Returns project, time of receipt and count of each.
    delete: &'static str,
    /// The name in `retired.what` under which the deleted rows stay counted, if they do.
    retired_as: Option<&'static str>,
}

const EVENTS: RetentionRule = RetentionRule {
    delete: "DELETE FROM events WHERE (project_id, timestamp, event_id) IN (
                 SELECT project_id, timestamp, event_id FROM events
                  WHERE received_at < ?1 ORDER BY received_at LIMIT ?2)
             RETURNING project_id, received_at, 1",
    retired_as: Some("events"),
};
/// A redriven letter counts no events: they are counted where they are stored.
const DEAD_LETTERS: RetentionRule = RetentionRule {
    delete: "DELETE FROM dead_letters WHERE dead_letter_id IN (
                 SELECT dead_letter_id FROM dead_letters WHERE received_at < ?1 ORDER BY received_at LIMIT ?2)
             RETURNING project_id, received_at, iif(redriven_at IS NULL, event_count, 0)",
    retired_as: Some("dead_letters"),
};
const LEDGER: RetentionRule = RetentionRule {
    delete: "DELETE FROM batches WHERE (batch_id, received_at, entry_seq, shard) IN (
                 SELECT batch_id, received_at, entry_seq, shard FROM batches
                  WHERE received_at < ?1 ORDER BY received_at LIMIT ?2)
             RETURNING project_id, received_at, 1",
    retired_as: None,
};
const UNDATED_IDS: RetentionRule = RetentionRule {
    delete: "DELETE FROM undated_ids WHERE (project_id, event_id) IN (
                 SELECT project_id, event_id FROM undated_ids
                  WHERE received_at IS NULL AND timestamp < ?1 ORDER BY timestamp LIMIT ?2)
             RETURNING project_id, timestamp, 1",
    retired_as: None,
};
/// Samples have the contents of events, and are kept as long.
const REJECTION_SAMPLES: RetentionRule = RetentionRule {
    delete: "DELETE FROM rejection_samples WHERE sample_id IN (
                 SELECT sample_id FROM rejection_samples WHERE at < ?1 ORDER BY at LIMIT ?2)
             RETURNING project_id, at, 1",
    retired_as: None,
};
const REJECTION_SOURCES: RetentionRule = RetentionRule {
    delete: "DELETE FROM rejection_sources WHERE source IN (
                 SELECT source FROM rejection_sources WHERE at < ?1 LIMIT ?2)
             RETURNING 0, at, 1",
    retired_as: None,
};
/// Kept as long as the ledger.
const LOST_BATCHES: RetentionRule = RetentionRule {
    delete: "DELETE FROM lost_batches WHERE batch_id IN (
                 SELECT batch_id FROM lost_batches WHERE received_at < ?1 ORDER BY received_at LIMIT ?2)
             RETURNING project_id, received_at, 1",
    retired_as: None,
};
/// Kept as long as the ledger.
const LIMIT_REFUNDS: RetentionRule = RetentionRule {
    delete: "DELETE FROM limit_refunds WHERE (batch_id, received_at, entry_seq, shard) IN (
                 SELECT batch_id, received_at, entry_seq, shard FROM limit_refunds WHERE received_at < ?1 LIMIT ?2)
             RETURNING 0, received_at, 1",
    retired_as: None,
};
const LIMIT_USAGE: RetentionRule = RetentionRule {
    delete: "DELETE FROM limit_usage WHERE (meter_id, period, subject, window_number) IN (
                 SELECT meter_id, period, subject, window_number FROM limit_usage
                  WHERE ends_at < ?1 ORDER BY ends_at LIMIT ?2)
             RETURNING project_id, ends_at, 1",
    retired_as: None,
};
/// Claims that are kept as long as the ledger.
const KEPT_IDS: RetentionRule = RetentionRule {
    delete: "DELETE FROM undated_ids WHERE (project_id, event_id) IN (
                 SELECT project_id, event_id FROM undated_ids WHERE received_at < ?1 ORDER BY received_at LIMIT ?2)
             RETURNING project_id, received_at, 1",
    retired_as: None,
};
/// Other programs may have added samples.
const REMOVE_SAMPLES: &str = "
    DELETE FROM rejection_samples WHERE sample_id IN (
        SELECT sample_id
          FROM (SELECT sample_id, row_number() OVER (PARTITION BY project_id, kind ORDER BY sample_id DESC) AS rank
                  FROM rejection_samples)
         WHERE rank > ?1)";

pub(super) async fn round(database: &Database, policy: &UpkeepPolicy) -> Result<UpkeepReport, StoreError> {
    let now_us = now_us();
    let mut partitions_retired = 0;
    if let Some(days) = policy.retention_days {
        let oldest_kept_us = day_start(now_us) - days_us(days);
        partitions_retired += retire(database, EVENTS, oldest_kept_us).await?;
        retire(database, DEAD_LETTERS, oldest_kept_us).await?;
        retire(database, REJECTION_SAMPLES, oldest_kept_us).await?;
    }
    // Before the ledger, which says which of them were stored after all.
    retire(database, LOST_BATCHES, first_kept_us(policy, now_us)).await?;
    partitions_retired += retire_ledger(database, policy, now_us).await?;
    // Their age is counted from the oldest pending entry: until it is written, the ids that it could repeat
    // must be kept.
    let oldest_us = oldest_pending_us(policy).min(now_us);
    retire(database, UNDATED_IDS, oldest_us - UNDATED_US).await?;
    retire(database, REJECTION_SOURCES, now_us - SOURCE_DAYS * DAY_US).await?;
    retire(database, KEPT_IDS, first_kept_us(policy, now_us)).await?;
    retire(database, LIMIT_REFUNDS, first_kept_us(policy, now_us)).await?;
    retire(database, LIMIT_USAGE, now_us - USAGE_DAYS * DAY_US).await?;
    database.write(|connection| connection.execute(REMOVE_SAMPLES, [i64::from(SAMPLES_KEPT)])).await?;
    return_space(database).await?;
    Ok(UpkeepReport { partitions_made: 0, partitions_retired, days_ahead: DAYS_AHEAD })
}

fn days_us(days: u32) -> i64 {
    i64::from(days.min(DAYS_MAX)) * DAY_US
}

fn oldest_pending_us(policy: &UpkeepPolicy) -> i64 {
    policy
        .oldest_pending_ms
        .map_or(i64::MAX, |ms| i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000))
}

/// The start of the first day of the ledger that is kept.
fn first_kept_us(policy: &UpkeepPolicy, now_us: i64) -> i64 {
    let kept_us = days_us(policy.ledger_days.max(LEDGER_DAYS_MIN));
    day_start((now_us - kept_us).min(oldest_pending_us(policy).saturating_sub(DAY_US)))
}

/// Deletes the days of the ledger that no entry can belong to any more. The watermark moves first, so that an
/// entry of a retired day, from a lane that was stopped for days, is always refused.
async fn retire_ledger(database: &Database, policy: &UpkeepPolicy, now_us: i64) -> Result<u64, StoreError> {
    let first_kept_us = first_kept_us(policy, now_us);
    let first_kept_us = database
        .write(move |connection| {
            let move_up = "UPDATE ledger_watermark SET first_time = max(first_time, ?1) RETURNING first_time";
            connection.query_row(move_up, [first_kept_us], |row| row.get(0))
        })
        .await?;
    retire(database, LEDGER, first_kept_us).await
}

/// Deletes rows received before `before_us` in chunks, until none is left or [`CHUNKS_MAX`] is reached.
/// Returns the number of days of which rows were deleted.
async fn retire(database: &Database, rule: RetentionRule, before_us: i64) -> Result<u64, StoreError> {
    let mut days = BTreeSet::new();
    for _ in 0..CHUNKS_MAX {
        let chunk = database.write(move |connection| retire_chunk(connection, rule, before_us)).await?;
        days.extend(chunk.days);
        if chunk.rows < CHUNK_ROWS {
            break;
        }
    }
    Ok(days.len() as u64)
}

struct Chunk {
    rows: i64,
    days: BTreeSet<i64>,
}

fn retire_chunk(
    connection: &mut Connection,
    rule: RetentionRule,
    before_us: i64,
) -> Result<Chunk, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if rule.retired_as == EVENTS.retired_as {
        meters::retire(&transaction, before_us, CHUNK_ROWS)?;
    }
    let mut rows = 0;
    let mut counts: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    {
        let mut delete = transaction.prepare_cached(rule.delete)?;
        let mut gone = delete.query(params![before_us, CHUNK_ROWS])?;
        while let Some(row) = gone.next()? {
            rows += 1;
            *counts.entry((row.get(0)?, day_start(row.get(1)?))).or_default() += row.get::<_, i64>(2)?;
        }
    }
    if let Some(what) = rule.retired_as {
        let count = "
            INSERT INTO retired AS r (project_id, what, day, count)
            VALUES (?1, ?2, strftime('%Y-%m-%d', ?3 / 1000000, 'unixepoch'), ?4)
            ON CONFLICT (project_id, what, day) DO UPDATE SET count = r.count + excluded.count";
        for ((project, day_us), gone) in &counts {
            transaction.prepare_cached(count)?.execute(params![project, what, day_us, gone])?;
        }
    }
    transaction.commit()?;
    Ok(Chunk { rows, days: counts.into_keys().map(|(_, day_us)| day_us).collect() })
}

/// Shrinks the file by its free pages, except [`PAGES_KEPT`].
async fn return_space(database: &Database) -> Result<(), StoreError> {
    while database.write(return_pages).await? > 0 {}
    Ok(())
}

/// Returns the number of pages returned to the disk.
fn return_pages(connection: &mut Connection) -> Result<i64, Error> {
    let free_pages = |connection: &Connection| -> Result<i64, Error> {
        connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))
    };
    let before = free_pages(connection)?;
    let pages = (before - PAGES_KEPT).min(CHUNK_PAGES);
    if pages <= 0 {
        return Ok(0);
    }
    {
        let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
    }
    Ok(before - free_pages(connection)?)
}
