//! Figures by the minute, counted from the events of the period by the code that counts them for a backfill.

use futures_util::{TryStreamExt, pin_mut};
use millrace_event::meter::{Meter, MeterTally};
use tokio_postgres::types::ToSql;

use super::super::copy::Instant;
use super::backfill::event;
use super::measured::NOT_CANCELLED;
use crate::meter_answer::{MINUTE_EVENTS_MAX, MINUTE_US, MeterAnswer, events_removed, too_many_events};
use crate::{MeterQuery, MeterRow, StoreError};

/// Stops after one more than an answer may read.
const COUNT: &str = "
    SELECT count(*) FROM (SELECT FROM events WHERE project_id = $1 AND timestamp >= $2 AND timestamp < $3 LIMIT $4) found";
const EVENTS: &str = "
    SELECT timestamp, event_id, subject, client_id, properties::text, context::text FROM events e
     WHERE project_id = $1 AND timestamp >= $2 AND timestamp < $3 AND name = $4 AND received_at >= $5
       AND timestamp < $6 AND ($7::text[] IS NULL OR subject = ANY ($7)) AND";
const REMOVED: &str = "
    SELECT FROM meter_retired
     WHERE meter_id = $1 AND day >= ($2::timestamptz AT TIME ZONE 'UTC')::date AND day < ($3::timestamptz AT TIME ZONE 'UTC')
     LIMIT 1";

/// The rows that answer a query.
///
/// # Errors
/// [`StoreError::Invalid`] when the period has too many events, or events of it are removed.
pub(super) async fn usage(
    client: &deadpool_postgres::Client,
    meter: &Meter,
    query: &MeterQuery,
) -> Result<Vec<MeterRow>, StoreError> {
    let (project, from, to) = (meter.project.0, Instant(query.from_us), Instant(query.to_us));
    let limit = i64::from(MINUTE_EVENTS_MAX) + 1;
    let count: i64 = client.query_one(COUNT, &[&project, &from, &to, &limit]).await?.get(0);
    if count == limit {
        return Err(too_many_events());
    }
    let subjects = Some(&query.subjects).filter(|subjects| !subjects.is_empty());
    let (received_from, counted_until) = (Instant(meter.received_from_us), Instant(meter.counted_until_us));
    let name = &meter.definition.event;
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&project, &from, &to, name, &received_from, &counted_until, &subjects];
    let rows = client.query_raw(&format!("{EVENTS} {NOT_CANCELLED}"), parameters).await?;
    pin_mut!(rows);
    let mut tally = MeterTally::default();
    while let Some(row) = rows.try_next().await? {
        let (event, timestamp_us) = event(meter, &row);
        tally.add_to_buckets(meter, &event, timestamp_us, MINUTE_US);
    }
    // After the events, so that what was removed before they were read is noticed.
    if client.query_opt(REMOVED, &[&meter.id.0, &from, &to]).await?.is_some() {
        return Err(events_removed());
    }
    let mut answer = MeterAnswer::new(meter, query)?;
    answer.add_tally(tally)?;
    Ok(answer.finish())
}
