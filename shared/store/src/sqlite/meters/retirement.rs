//! Counts what meters have counted of the events that retention removes, and removes deleted meters.

use millrace_event::meter::{Addition, MeterTally};
use rusqlite::{Connection, Error, TransactionBehavior, params};

use super::super::clock::day_start;
use super::definitions::meters;
use super::events::{COLUMNS, STILL_COUNTED, add_events};
use crate::StoreError;

/// Rows of a deleted meter that one transaction removes from a table, at most.
const ROWS_MAX: i64 = 5_000;
const ADD: &str = "
    INSERT INTO meter_retired AS r (meter_id, day, events, faults) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (meter_id, day) DO UPDATE
       SET events = r.events + excluded.events, faults = r.faults + excluded.faults";

/// Counts the events that are deleted next: at most `limit`, the ones received first before `before_us`. Call
/// it in the transaction that deletes them.
pub(in super::super) fn retire(
    transaction: &Connection,
    before_us: i64,
    limit: i64,
) -> Result<(), StoreError> {
    for info in meters(transaction, None)? {
        let meter = &info.meter;
        let select = format!(
            "SELECT {COLUMNS} FROM (SELECT * FROM events WHERE received_at < ?1 ORDER BY received_at LIMIT ?2) events
              WHERE project_id = ?3 AND name = ?4 AND received_at >= ?5 AND timestamp < ?6
                AND timestamp / 86400000000 - (timestamp % 86400000000 < 0) = ?7
                AND {STILL_COUNTED}"
        );
        for day in days(transaction, before_us, limit)? {
            let mut tally = MeterTally::default();
            let parameters = params![
                before_us,
                limit,
                meter.project.0,
                meter.definition.event,
                meter.received_from_us,
                meter.counted_until_us,
                day,
            ];
            add_events(transaction, &select, parameters, meter, &mut tally)?;
            let additions = tally.additions.values().flat_map(|figures| figures.values()).flatten();
            let events: i64 = additions.map(|addition: &Addition| addition.events).sum();
            let faults: i64 = tally.faults.values().map(|fault| fault.events).sum();
            if events + faults > 0 {
                let start_us = day_start(day * 86_400_000_000);
                transaction.prepare_cached(ADD)?.execute(params![meter.id.0, start_us, events, faults])?;
            }
        }
    }
    Ok(())
}

/// The days since 1970 of the timestamps of these events.
fn days(transaction: &Connection, before_us: i64, limit: i64) -> Result<Vec<i64>, Error> {
    let select = "
        SELECT DISTINCT timestamp / 86400000000 - (timestamp % 86400000000 < 0)
          FROM (SELECT timestamp FROM events WHERE received_at < ?1 ORDER BY received_at LIMIT ?2)";
    let mut statement = transaction.prepare_cached(select)?;
    let rows = statement.query_map([before_us, limit], |row| row.get(0))?;
    rows.collect()
}

/// Removes figures of deleted meters, and the meters that have none left. Returns how many rows it removed.
pub(in super::super) fn remove_deleted(connection: &mut Connection) -> Result<u64, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let deleted: Vec<i64> = {
        let mut statement =
            transaction.prepare_cached("SELECT meter_id FROM meters WHERE deleted_at IS NOT NULL")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect::<Result<_, _>>()?
    };
    let mut removed = 0;
    for meter in deleted {
        let mut left = 0;
        for (table, key) in [
            ("meter_usage", "meter_id, subject, bucket, groups"),
            ("meter_uniques", "meter_id, subject, bucket, groups, value"),
            ("meter_faults", "meter_id, fault"),
            ("meter_retired", "meter_id, day"),
            ("meter_erased", "meter_id"),
        ] {
            let remove = format!(
                "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE meter_id = ?1 LIMIT ?2)"
            );
            left += transaction.execute(&remove, [meter, ROWS_MAX])?;
        }
        if left == 0 {
            transaction.execute("DELETE FROM meters WHERE meter_id = ?1", [meter])?;
        }
        removed += left as u64;
    }
    transaction.commit()?;
    Ok(removed)
}
