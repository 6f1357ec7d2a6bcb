//! Counts the events that were stored before a meter, in steps, next to running workers.
//!
//! A step counts the events up to a timestamp and moves `counted_until` there, in one transaction that holds
//! the lock of the definitions. So each event belongs to one side: transactions that committed before the
//! step are seen by it, and the ones after it count by the new `counted_until`.

use futures_util::{TryStreamExt, pin_mut};
use millrace_event::meter::{Meter, MeterId, MeterTally};
use millrace_event::row::Row as Event;
use millrace_failpoint::{self as failpoint, Point};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::copy::Instant;
use super::additions::MeterStatements;
use super::definitions::{KNOWS_CANCELLATIONS, lock, meters};
use super::measured::STILL_COUNTED;
use crate::{BackfillStep, StoreError};

/// The timestamp at which a step ends: that of the event after the last one, so that events with one
/// timestamp stay together.
const END: &str = "
    SELECT timestamp FROM events WHERE project_id = $1 AND timestamp >= $2 ORDER BY timestamp OFFSET $3 LIMIT 1";
const EVENTS: &str = "
    SELECT timestamp, event_id, subject, client_id, properties::text, context::text FROM events e
     WHERE project_id = $1 AND timestamp >= $2 AND ($3::timestamptz IS NULL OR timestamp < $3) AND name = $4
       AND received_at >= $5 AND";
const COUNT: &str = "
    SELECT count(*) FROM events WHERE project_id = $1 AND timestamp >= $2 AND ($3::timestamptz IS NULL OR timestamp < $3)";
const MOVE_ON: &str =
    "UPDATE meters SET counted_until = coalesce($2::timestamptz, 'infinity') WHERE meter_id = $1";

/// Counts the next events of a meter whose backfill is under way: about `events_max` events of its project.
pub(in super::super) async fn backfill(
    client: &mut deadpool_postgres::Client,
    meter: MeterId,
    events_max: u32,
) -> Result<BackfillStep, StoreError> {
    let transaction = client.transaction().await?;
    lock(transaction.client()).await?;
    let found = meters(transaction.client(), None).await?.into_iter().find(|info| info.meter.id == meter);
    let Some(info) = found else {
        return Err(StoreError::Invalid(format!("there is no meter {}", meter.0)));
    };
    let (meter, definition) = (&info.meter, &info.meter.definition);
    if meter.counted_until_us == i64::MAX {
        return Ok(BackfillStep { events: 0, counted_until_us: i64::MAX });
    }
    let (project, from) = (meter.project.0, Instant(meter.counted_until_us));
    let end = transaction.query_opt(END, &[&project, &from, &i64::from(events_max)]).await?;
    let mut end = end.map(|row| row.get::<_, Instant>(0));
    if end == Some(from) {
        // More events have this one timestamp than a step should count.
        end = Some(Instant(from.0 + 1));
    }
    let count: i64 = transaction.query_one(COUNT, &[&project, &from, &end]).await?.get(0);
    let received_from = Instant(meter.received_from_us);
    let parameters: [&(dyn ToSql + Sync); 5] = [&project, &from, &end, &definition.event, &received_from];
    let rows = transaction.query_raw(&format!("{EVENTS} {STILL_COUNTED}"), parameters).await?;
    pin_mut!(rows);
    let mut tally = MeterTally::default();
    while let Some(row) = rows.try_next().await? {
        let (event, timestamp_us) = event(meter, &row);
        tally.add_to(meter, &event, timestamp_us);
    }
    let statements = MeterStatements::prepare(transaction.client()).await?;
    statements.add(transaction.client(), &tally).await?;
    transaction.batch_execute(KNOWS_CANCELLATIONS).await?;
    transaction.execute(MOVE_ON, &[&meter.id.0, &end]).await?;
    failpoint::reach(Point::BackfillAdded);
    transaction.commit().await?;
    failpoint::reach(Point::BackfillCommitted);
    let counted_until_us = end.map_or(i64::MAX, |end| end.0);
    Ok(BackfillStep { events: count.unsigned_abs(), counted_until_us })
}

/// An event of a meter and its timestamp in microseconds since 1970, from the columns timestamp, event_id,
/// subject, client_id, properties and context.
pub(super) fn event<'r>(meter: &'r Meter, row: &'r Row) -> (Event<'r>, i64) {
    let json = |column| row.get::<_, Option<&str>>(column).map(str::as_bytes);
    let bare = Event::bare(meter.project, row.get(1), &meter.definition.event);
    let (subject, client_id) = (row.get(2), row.get(3));
    let event = Event { subject, client_id, properties: json(4), context: json(5), ..bare };
    (event, row.get::<_, Instant>(0).0)
}
