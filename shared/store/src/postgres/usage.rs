//! Reads usage for customers, totals for audits, and counters for a stream that lost its data.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use deadpool_postgres::{Client, Transaction};
use time::OffsetDateTime;
use tokio_postgres::IsolationLevel;

use super::copy::Instant;
use super::distribution::WritersPause;
use super::ledger_rows::LedgerKeys;
use super::ledger_statements;
use crate::ledger::LedgerKey;
use crate::rebuild::Rebuild;
use crate::{LedgerSums, ProjectTotals, StoreError, UsageRow, UsageWindow};
use millrace_event::plan::{ProjectId, this_month_us};
use millrace_event::{BatchId, Outcome, PendingBatch, ProjectCounters};

/// Pending batches looked up in the ledger by one statement.
pub(super) const PENDING_CHUNK: usize = 10_000;

pub(super) async fn batch(
    client: &Client,
    project: ProjectId,
    batch_id: BatchId,
) -> Result<Option<Outcome>, StoreError> {
    let first = "
        SELECT stored, duplicate, dead, conflict FROM ledger
         WHERE row_id IN ($1, millrace_batch_group($1)) AND batch_id = $1 AND project_id = $2
         ORDER BY received_at, entry_seq LIMIT 1";
    let statement = client.prepare_cached(first).await?;
    let row = client.query_opt(&statement, &[&batch_id, &project.0]).await?;
    Ok(row.as_ref().map(ledger_statements::outcome))
}

pub(super) async fn usage(
    client: &Client,
    project: ProjectId,
    from: OffsetDateTime,
    to: OffsetDateTime,
    window: UsageWindow,
) -> Result<Vec<UsageRow>, StoreError> {
    let window = match window {
        UsageWindow::Hour => "hour",
        UsageWindow::Day => "day",
        UsageWindow::Month => "month",
    };
    let sums = "
        SELECT greatest(date_trunc($4, hour, 'UTC'), $2) AS start, sum(events - cancelled)::bigint, sum(bytes)::bigint,
               sum(duplicates)::bigint, sum(dead)::bigint, sum(conflicts)::bigint, sum(cancelled)::bigint
          FROM usage_hourly WHERE project_id = $1 AND hour >= $2 AND hour < $3 GROUP BY start ORDER BY start";
    let statement = client.prepare_cached(sums).await?;
    let rows =
        client.query(&statement, &[&project.0, &Instant::from(from), &Instant::from(to), &window]).await?;
    let usage_row = |row: &tokio_postgres::Row| UsageRow {
        start: row.get::<_, Instant>(0).into(),
        events: count(row, 1),
        bytes: count(row, 2),
        duplicates: count(row, 3),
        dead: count(row, 4),
        conflicts: count(row, 5),
        cancelled: count(row, 6),
    };
    Ok(rows.iter().map(usage_row).collect())
}

pub(super) fn count(row: &tokio_postgres::Row, column: usize) -> u64 {
    u64::try_from(row.get::<_, i64>(column)).unwrap_or(0)
}

/// Begins a transaction whose statements all see the same snapshot.
pub(super) async fn snapshot(client: &mut Client) -> Result<Transaction<'_>, StoreError> {
    let isolation = IsolationLevel::RepeatableRead;
    Ok(client.build_transaction().isolation_level(isolation).read_only(false).start().await?)
}

/// `pause` is needed to count rows where `events` is distributed: all snapshots are taken in it.
pub(super) async fn totals(
    client: &mut Client,
    count_rows: bool,
    pause: Option<WritersPause>,
) -> Result<Vec<ProjectTotals>, StoreError> {
    let transaction = snapshot(client).await?;
    if count_rows {
        // Taken before the first query, which fixes the snapshot: from here on no partition can be dropped.
        let hold = "SET LOCAL statement_timeout = '30min'; LOCK TABLE retiring IN SHARE MODE";
        transaction.batch_execute(hold).await?;
    }
    let mut totals: BTreeMap<ProjectId, ProjectTotals> = BTreeMap::new();
    let usage_sums = "
        SELECT project_id, sum(events)::bigint, sum(duplicates)::bigint, sum(dead)::bigint,
               coalesce(sum(events - redriven) FILTER (WHERE hour >= date_trunc('month', now(), 'UTC')), 0)::bigint,
               coalesce(sum(events) FILTER (WHERE hour >= kept.since), 0)::bigint,
               coalesce(sum(duplicates) FILTER (WHERE hour >= kept.since), 0)::bigint,
               coalesce(sum(dead) FILTER (WHERE hour >= kept.since), 0)::bigint,
               sum(cancelled)::bigint
          FROM usage_hourly, (SELECT first_day::timestamp AT TIME ZONE 'UTC' AS since FROM ledger_watermark) kept
         GROUP BY project_id";
    let usage = transaction.query(usage_sums, &[]).await?;
    if let Some(pause) = pause {
        pause.end(&transaction).await?;
    }
    for row in usage {
        let of_project = of(&mut totals, &row);
        of_project.stored = count(&row, 1);
        of_project.duplicate = count(&row, 2);
        of_project.dead = count(&row, 3);
        of_project.stored_this_month = count(&row, 4);
        of_project.cancelled = count(&row, 8);
        if count_rows {
            of_project.ledger_hours = sums(&row, 5);
        }
    }
    for row in transaction.query("SELECT project_id FROM projects", &[]).await? {
        of(&mut totals, &row);
    }
    if count_rows {
        count_tables(&transaction, &mut totals).await?;
    }
    transaction.commit().await?;
    Ok(totals.into_values().collect())
}

/// The totals of the project in the first column.
fn of<'a>(
    totals: &'a mut BTreeMap<ProjectId, ProjectTotals>,
    row: &tokio_postgres::Row,
) -> &'a mut ProjectTotals {
    let project = ProjectId(row.get(0));
    totals.entry(project).or_insert(ProjectTotals::zero(project))
}

/// Reads three sums from this column on.
fn sums(row: &tokio_postgres::Row, first: usize) -> LedgerSums {
    LedgerSums { stored: count(row, first), duplicate: count(row, first + 1), dead: count(row, first + 2) }
}

async fn count_tables(
    transaction: &Transaction<'_>,
    totals: &mut BTreeMap<ProjectId, ProjectTotals>,
) -> Result<(), StoreError> {
    let ledger = "SELECT project_id, sum(stored)::bigint, sum(duplicate)::bigint, sum(dead)::bigint
                    FROM ledger GROUP BY project_id";
    for row in transaction.query(ledger, &[]).await? {
        of(totals, &row).ledger = sums(&row, 1);
    }
    let mut event_counts = vec!["SELECT project_id, count(*) FROM events GROUP BY project_id".to_owned()];
    for row in transaction.query("SELECT partition FROM retiring", &[]).await? {
        let partition: &str = row.get(0);
        event_counts.push(format!("SELECT project_id, count(*) FROM {partition} GROUP BY project_id"));
    }
    event_counts.push("SELECT project_id, count FROM retired WHERE what = 'events'".to_owned());
    for counted in event_counts {
        for row in transaction.query(&counted, &[]).await? {
            of(totals, &row).event_rows += count(&row, 1);
        }
    }
    let cancelled = "SELECT project_id, count(*) FROM cancellations GROUP BY project_id
                     UNION ALL SELECT project_id, cancelled FROM erasures";
    for row in transaction.query(cancelled, &[]).await? {
        of(totals, &row).cancelled_rows += count(&row, 1);
    }
    let letters = "SELECT project_id, sum(event_count)::bigint FROM dead_letters WHERE redriven_at IS NULL GROUP BY project_id
                   UNION ALL SELECT project_id, count FROM retired WHERE what = 'dead_letters'";
    for row in transaction.query(letters, &[]).await? {
        of(totals, &row).dead_rows += count(&row, 1);
    }
    Ok(())
}

pub(super) async fn counters_for_rebuild(
    client: &mut Client,
    shard: u16,
    shards: u16,
    pending: &[PendingBatch],
) -> Result<Vec<ProjectCounters>, StoreError> {
    let transaction = snapshot(client).await?;
    transaction.batch_execute("SET LOCAL statement_timeout = '5min'; SET LOCAL enable_seqscan = off").await?;
    let now: SystemTime = transaction.query_one("SELECT clock_timestamp()", &[]).await?.get(0);
    let now_us = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_micros());
    let now_us = u64::try_from(now_us).unwrap_or(u64::MAX);
    let mut rebuild = Rebuild::new(now_us);
    let month_start = Instant(this_month_us(now_us).cast_signed());
    let usage_sums = "
        SELECT project_id, coalesce(sum(u.events + u.duplicates + u.dead), 0)::bigint,
               coalesce(sum(u.events - u.redriven) FILTER (WHERE u.hour >= $1), 0)::bigint
          FROM projects FULL JOIN usage_hourly u USING (project_id) GROUP BY project_id";
    for row in transaction.query(usage_sums, &[&month_start]).await? {
        rebuild.add_usage(ProjectId(row.get(0)), count(&row, 1), count(&row, 2));
    }
    for chunk in pending.chunks(PENDING_CHUNK) {
        let written = written(&transaction, shard, chunk).await?;
        for (index, batch) in chunk.iter().enumerate() {
            rebuild.add_pending(batch, written.get(&index).copied());
        }
    }
    transaction.commit().await?;
    Ok(rebuild.of_shard(shard, shards))
}

/// The outcomes of those batches that are in the ledger, by their index in `pending`.
pub(super) async fn written(
    transaction: &Transaction<'_>,
    shard: u16,
    pending: &[PendingBatch],
) -> Result<HashMap<usize, Outcome>, StoreError> {
    let mut keys = Vec::new();
    for (index, batch) in pending.iter().enumerate() {
        if let Some(key) = LedgerKey::new(batch.batch_id, batch.id, shard) {
            keys.extend([key, key.alone(), key.of_reused_key()].map(|key| (index, key)));
        }
    }
    let written = ledger_statements::written_before(transaction, &LedgerKeys::new(&keys)).await?;
    Ok(written.into_iter().filter_map(|found| Some((found.index, found.outcome?))).collect())
}
