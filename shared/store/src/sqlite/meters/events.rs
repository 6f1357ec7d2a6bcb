//! Reads stored events for meters.

use millrace_event::meter::{Meter, MeterTally};
use millrace_event::row::Row as Event;
use rusqlite::{Connection, Error, Params, Row};
use uuid::Uuid;

/// The columns that [`add_events`] reads, in its order.
pub(super) const COLUMNS: &str = "timestamp, event_id, subject, client_id, properties, context";

/// Whether figures count an event of `events` by what is stored of it: it is not cancelled, and not
/// anonymized. What is left of an anonymized event is not what was counted; `meter_erased` counts it.
pub(super) const STILL_COUNTED: &str = "
    NOT EXISTS (SELECT 1 FROM cancellations c
                 WHERE c.project_id = events.project_id AND c.timestamp = events.timestamp
                   AND c.event_id = events.event_id AND c.received_at = events.received_at)
    AND NOT EXISTS (SELECT 1 FROM erasures x
                     WHERE x.project_id = events.project_id AND x.pseudonym = events.subject
                       AND events.received_at < x.received_before)";

/// Adds stored events of one meter to a tally. The statement returns [`COLUMNS`] of events with its name.
pub(super) fn add_events(
    connection: &Connection,
    statement: &str,
    parameters: impl Params,
    meter: &Meter,
    tally: &mut MeterTally,
) -> Result<(), Error> {
    let mut select = connection.prepare_cached(statement)?;
    let mut rows = select.query(parameters)?;
    while let Some(row) = rows.next()? {
        let bytes = |column| -> Result<Option<&[u8]>, Error> { Ok(row.get_ref(column)?.as_bytes_or_null()?) };
        let id = Uuid::from_bytes(row.get(1)?);
        let bare = Event::bare(meter.project, id, &meter.definition.event);
        let (subject, client_id) = (text(row, 2)?, text(row, 3)?);
        let event = Event { subject, client_id, properties: bytes(4)?, context: bytes(5)?, ..bare };
        tally.add_to(meter, &event, row.get(0)?);
    }
    Ok(())
}

fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<Option<&'r str>, Error> {
    Ok(row.get_ref(column)?.as_str_or_null()?)
}
