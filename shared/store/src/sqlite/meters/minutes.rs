//! Figures by the minute, counted from the events of the period by the code that counts them for a backfill.

use millrace_event::meter::{Meter, MeterTally};
use rusqlite::{Connection, params};

use super::super::clock::day_start;
use super::events::{COLUMNS, NOT_CANCELLED, add_to_buckets};
use super::query::subjects;
use crate::meter_answer::{MINUTE_EVENTS_MAX, MINUTE_US, MeterAnswer, events_removed, too_many_events};
use crate::{MeterQuery, MeterRow, StoreError};

/// Stops after one more than an answer may read.
const COUNT: &str = "
    SELECT count(*) FROM (SELECT 1 FROM events WHERE project_id = ?1 AND timestamp >= ?2 AND timestamp < ?3 LIMIT ?4)";
const REMOVED: &str = "SELECT 1 FROM meter_retired WHERE meter_id = ?1 AND day >= ?2 AND day < ?3";

/// The rows that answer a query.
///
/// # Errors
/// [`StoreError::Invalid`] when the period has too many events, or events of it are removed.
pub(super) fn usage(
    connection: &Connection,
    meter: &Meter,
    query: &MeterQuery,
) -> Result<Vec<MeterRow>, StoreError> {
    let (project, MeterQuery { from_us, to_us, .. }) = (meter.project.0, query);
    let count = params![project, from_us, to_us, MINUTE_EVENTS_MAX + 1];
    let count: u32 = connection.prepare_cached(COUNT)?.query_row(count, |row| row.get(0))?;
    if count > MINUTE_EVENTS_MAX {
        return Err(too_many_events());
    }
    let select = format!(
        "SELECT {COLUMNS} FROM events
          WHERE project_id = ?1 AND timestamp >= ?2 AND timestamp < ?3 AND name = ?4 AND received_at >= ?5
            AND timestamp < ?6 AND (?7 IS NULL OR subject IN (SELECT value FROM json_each(?7)))
            AND {NOT_CANCELLED}"
    );
    let parameters = params![
        project,
        from_us,
        to_us,
        meter.definition.event,
        meter.received_from_us,
        meter.counted_until_us,
        subjects(query)
    ];
    let mut tally = MeterTally::default();
    add_to_buckets(connection, &select, parameters, (meter, MINUTE_US), &mut tally)?;
    // After the events, so that what was removed before they were read is noticed.
    let days = params![meter.id.0, day_start(*from_us), to_us];
    if connection.prepare_cached(REMOVED)?.exists(days)? {
        return Err(events_removed());
    }
    let mut answer = MeterAnswer::new(meter, query)?;
    answer.add_tally(tally)?;
    Ok(answer.finish())
}
