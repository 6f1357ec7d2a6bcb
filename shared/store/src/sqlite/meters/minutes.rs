//! Figures by the minute, counted from the events of the period by the code that counts them for a backfill.

use millrace_event::meter::{Meter, MeterTally};
use rusqlite::{Connection, params};

use super::events::{COLUMNS, STILL_COUNTED, add_to_buckets};
use super::query::subjects;
use crate::meter_answer::{MINUTE_EVENTS_MAX, MINUTE_US, MeterAnswer, events_removed, too_many_events};
use crate::meters::is_unique;
use crate::{MeterQuery, MeterRow, StoreError};

/// Stops after one more than an answer may read.
const COUNT: &str = "
    SELECT count(*) FROM (SELECT 1 FROM events WHERE project_id = ?1 AND timestamp >= ?2 AND timestamp < ?3 LIMIT ?4)";

/// The rows that answer a query. The connection is in a transaction, so the events and the figures are those
/// of one moment.
///
/// # Errors
/// [`StoreError::Invalid`] when the period has too many events, or events of it are removed.
pub(in super::super) fn usage(
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
          WHERE project_id = ?1 AND timestamp >= ?2 AND timestamp < ?3 AND name = ?4
            AND (?5 IS NULL OR subject IN (SELECT value FROM json_each(?5)))
            AND EXISTS (SELECT 1 FROM meters m WHERE m.meter_id = ?6 AND events.received_at >= m.received_from
                           AND events.timestamp < m.counted_until)
            AND {STILL_COUNTED}"
    );
    let parameters = params![project, from_us, to_us, meter.definition.event, subjects(query), meter.id.0];
    let mut tally = MeterTally::default();
    add_to_buckets(connection, &select, parameters, (meter, MINUTE_US), &mut tally)?;
    let table = if is_unique(meter.definition.aggregation) { "meter_uniques" } else { "meter_usage" };
    let kept = format!(
        "SELECT coalesce(sum(events), 0) FROM {table}
          WHERE meter_id = ?1 AND bucket >= ?2 AND bucket < ?3 AND (?4 IS NULL OR subject IN (SELECT value FROM json_each(?4)))"
    );
    let place = params![meter.id.0, from_us, to_us, subjects(query)];
    let kept: i64 = connection.prepare_cached(&kept)?.query_row(place, |row| row.get(0))?;
    if kept != tally.events() {
        return Err(events_removed());
    }
    let mut answer = MeterAnswer::new(meter, query)?;
    answer.add_tally(tally)?;
    Ok(answer.finish())
}
