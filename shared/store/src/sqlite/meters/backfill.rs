//! Counts the events that were stored before a meter, in steps, between the transactions of the writer.

use millrace_event::meter::{MeterId, MeterTally};
use millrace_failpoint::{self as failpoint, Point};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::addition::add;
use super::definitions::meter;
use super::events::{COLUMNS, STILL_COUNTED, add_events};
use crate::{BackfillStep, StoreError};

/// The timestamp at which a step ends: that of the event after the last one, so that events with one
/// timestamp stay together.
const END: &str = "
    SELECT timestamp FROM events WHERE project_id = ?1 AND timestamp >= ?2 ORDER BY timestamp LIMIT 1 OFFSET ?3";
const COUNT: &str =
    "SELECT count(*) FROM events WHERE project_id = ?1 AND timestamp >= ?2 AND timestamp < ?3";

/// Counts the next events of a meter whose backfill is under way: about `events_max` events of its project.
pub(in super::super) fn backfill(
    connection: &mut Connection,
    id: MeterId,
    events_max: u32,
) -> Result<BackfillStep, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let meter = meter(&transaction, id)?;
    let from = meter.counted_until_us;
    if from == i64::MAX {
        return Ok(BackfillStep { events: 0, counted_until_us: from });
    }
    let project = meter.project.0;
    let end: Option<i64> =
        transaction.query_row(END, params![project, from, events_max], |row| row.get(0)).optional()?;
    let end = match end {
        None => i64::MAX,
        // More events have this one timestamp than a step should count.
        Some(end) if end == from => end + 1,
        Some(end) => end,
    };
    let events: i64 = transaction.query_row(COUNT, [project, from, end], |row| row.get(0))?;
    let select = format!(
        "SELECT {COLUMNS} FROM events
          WHERE project_id = ?1 AND timestamp >= ?2 AND timestamp < ?3 AND name = ?4 AND received_at >= ?5
            AND {STILL_COUNTED}"
    );
    let mut tally = MeterTally::default();
    let parameters = params![project, from, end, meter.definition.event, meter.received_from_us];
    add_events(&transaction, &select, parameters, &meter, &mut tally)?;
    add(&transaction, &tally)?;
    transaction.execute("UPDATE meters SET counted_until = ?2 WHERE meter_id = ?1", [id.0, end])?;
    failpoint::reach(Point::BackfillAdded);
    transaction.commit()?;
    failpoint::reach(Point::BackfillCommitted);
    Ok(BackfillStep { events: events.unsigned_abs(), counted_until_us: end })
}
