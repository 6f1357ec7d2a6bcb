//! Reads usage for customers, totals for audits, and counters for a stream that lost its data.

use std::collections::BTreeMap;

use rusqlite::{Connection, Error, OptionalExtension, Row, params};

use super::clock::{moment, now_us};
use super::ledger::{self, Ledger};
use crate::ledger::LedgerKey;
use crate::rebuild::Rebuild;
use crate::{LedgerSums, ProjectTotals, StoreError, UsageRow, UsageWindow};
use millrace_event::plan::{ProjectId, this_month_us};
use millrace_event::{BatchId, Outcome, PendingBatch, ProjectCounters};

pub(super) fn batch(
    connection: &Connection,
    project: ProjectId,
    batch_id: BatchId,
) -> Result<Option<Outcome>, StoreError> {
    let first =
        "SELECT stored, duplicate, dead, conflict FROM batches WHERE batch_id = ?1 AND project_id = ?2
                  ORDER BY received_at, entry_seq LIMIT 1";
    let mut statement = connection.prepare_cached(first)?;
    Ok(statement.query_row(params![batch_id.as_bytes(), project.0], ledger::outcome).optional()?)
}

pub(super) fn usage(
    connection: &Connection,
    project: ProjectId,
    (from_us, to_us): (i64, i64),
    window: UsageWindow,
) -> Result<Vec<UsageRow>, StoreError> {
    let start_of_window = match window {
        UsageWindow::Hour => "+0 hours",
        UsageWindow::Day => "start of day",
        UsageWindow::Month => "start of month",
    };
    let sums = "
        SELECT max(unixepoch(hour / 1000000, 'unixepoch', ?4) * 1000000, ?2) AS start,
               sum(events - cancelled), sum(bytes), sum(duplicates), sum(dead), sum(conflicts), sum(cancelled)
          FROM usage_hourly WHERE project_id = ?1 AND hour >= ?2 AND hour < ?3 GROUP BY start ORDER BY start";
    let usage_row = |row: &Row<'_>| {
        Ok(UsageRow {
            start: moment(row.get(0)?),
            events: count(row, 1)?,
            bytes: count(row, 2)?,
            duplicates: count(row, 3)?,
            dead: count(row, 4)?,
            conflicts: count(row, 5)?,
            cancelled: count(row, 6)?,
        })
    };
    let mut statement = connection.prepare_cached(sums)?;
    let rows = statement.query_map(params![project.0, from_us, to_us, start_of_window], usage_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn count(row: &Row<'_>, column: usize) -> Result<u64, Error> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

pub(super) fn totals(connection: &Connection, count_rows: bool) -> Result<Vec<ProjectTotals>, StoreError> {
    let mut totals: BTreeMap<ProjectId, ProjectTotals> = BTreeMap::new();
    let usage_sums = "
        SELECT project_id, sum(events), sum(duplicates), sum(dead),
               coalesce(sum(events - redriven) FILTER (WHERE hour >= ?1), 0),
               coalesce(sum(events) FILTER (WHERE hour >= first_time), 0),
               coalesce(sum(duplicates) FILTER (WHERE hour >= first_time), 0),
               coalesce(sum(dead) FILTER (WHERE hour >= first_time), 0), sum(cancelled)
          FROM usage_hourly, ledger_watermark GROUP BY project_id";
    let month_start_us = this_month_us(now_us().unsigned_abs()).cast_signed();
    each(connection, usage_sums, &[month_start_us], |row| {
        let of_project = of(&mut totals, row)?;
        of_project.stored = count(row, 1)?;
        of_project.duplicate = count(row, 2)?;
        of_project.dead = count(row, 3)?;
        of_project.stored_this_month = count(row, 4)?;
        of_project.cancelled = count(row, 8)?;
        if count_rows {
            of_project.ledger_hours = sums(row, 5)?;
        }
        Ok(())
    })?;
    each(connection, "SELECT project_id FROM projects", &[], |row| of(&mut totals, row).map(|_| ()))?;
    if count_rows {
        count_tables(connection, &mut totals)?;
    }
    Ok(totals.into_values().collect())
}

/// The totals of the project in the first column.
fn of<'a>(
    totals: &'a mut BTreeMap<ProjectId, ProjectTotals>,
    row: &Row<'_>,
) -> Result<&'a mut ProjectTotals, Error> {
    let project = ProjectId(row.get(0)?);
    Ok(totals.entry(project).or_insert(ProjectTotals::zero(project)))
}

/// Reads three sums from this column on.
fn sums(row: &Row<'_>, first: usize) -> Result<LedgerSums, Error> {
    let (stored, duplicate, dead) = (count(row, first)?, count(row, first + 1)?, count(row, first + 2)?);
    Ok(LedgerSums { stored, duplicate, dead })
}

fn each(
    connection: &Connection,
    sql: &str,
    parameters: &[i64],
    mut take: impl FnMut(&Row<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    Ok(())
}

fn count_tables(
    connection: &Connection,
    totals: &mut BTreeMap<ProjectId, ProjectTotals>,
) -> Result<(), StoreError> {
    // Rows before the watermark are retired, whether they are deleted already or not.
    let ledger = "SELECT project_id, sum(stored), sum(duplicate), sum(dead) FROM batches, ledger_watermark
                   WHERE received_at >= first_time GROUP BY project_id";
    each(connection, ledger, &[], |row| {
        of(totals, row)?.ledger = sums(row, 1)?;
        Ok(())
    })?;
    let events = "SELECT project_id, count(*) FROM events GROUP BY project_id
                  UNION ALL SELECT project_id, count FROM retired WHERE what = 'events'";
    each(connection, events, &[], |row| {
        of(totals, row)?.event_rows += count(row, 1)?;
        Ok(())
    })?;
    let cancelled = "SELECT project_id, count(*) FROM cancellations GROUP BY project_id
                     UNION ALL SELECT project_id, cancelled FROM erasures";
    each(connection, cancelled, &[], |row| {
        of(totals, row)?.cancelled_rows += count(row, 1)?;
        Ok(())
    })?;
    let letters =
        "SELECT project_id, sum(event_count) FROM dead_letters WHERE redriven_at IS NULL GROUP BY project_id
                   UNION ALL SELECT project_id, count FROM retired WHERE what = 'dead_letters'";
    each(connection, letters, &[], |row| {
        of(totals, row)?.dead_rows += count(row, 1)?;
        Ok(())
    })?;
    Ok(())
}

pub(super) fn counters_for_rebuild(
    connection: &Connection,
    shard: u16,
    shards: u16,
    pending: &[PendingBatch],
) -> Result<Vec<ProjectCounters>, StoreError> {
    let now_us = now_us().unsigned_abs();
    let mut rebuild = Rebuild::new(now_us);
    let usage_sums = "
        SELECT project_id, sum(events + duplicates + dead), coalesce(sum(events - redriven) FILTER (WHERE hour >= ?1), 0)
          FROM usage_hourly GROUP BY project_id UNION ALL SELECT project_id, 0, 0 FROM projects";
    each(connection, usage_sums, &[this_month_us(now_us).cast_signed()], |row| {
        rebuild.add_usage(ProjectId(row.get(0)?), count(row, 1)?, count(row, 2)?);
        Ok(())
    })?;
    let mut ledger = Ledger::prepare(connection)?;
    for batch in pending {
        rebuild.add_pending(batch, written(&mut ledger, shard, batch)?);
    }
    Ok(rebuild.of_shard(shard, shards))
}

/// The outcome of a batch in the stream, if it is in the ledger.
pub(super) fn written(
    ledger: &mut Ledger<'_>,
    shard: u16,
    batch: &PendingBatch,
) -> Result<Option<Outcome>, Error> {
    let first = LedgerKey::new(batch.batch_id, batch.id, shard);
    let mut written = None;
    for key in first.into_iter().flat_map(|first| [first, first.of_reused_key()]) {
        written = written.or(ledger.outcome(&key)?);
    }
    Ok(written)
}
