//! Figures by the minute, counted from the events of the period by the code that counts them for a backfill.

use futures_util::{TryStreamExt, pin_mut};
use millrace_event::meter::{Meter, MeterTally};
use tokio_postgres::types::ToSql;

use super::super::copy::Instant;
use super::super::usage::snapshot;
use super::backfill::event;
use super::measured::STILL_COUNTED;
use super::query::figures;
use crate::meter_answer::{MINUTE_EVENTS_MAX, MINUTE_US, MeterAnswer, events_removed, too_many_events};
use crate::{MeterQuery, MeterRow, StoreError};

/// Stops after one more than an answer may read.
const COUNT: &str = "
    SELECT count(*) FROM (SELECT FROM events WHERE project_id = $1 AND timestamp >= $2 AND timestamp < $3 LIMIT $4) found";
const EVENTS: &str = "
    SELECT timestamp, event_id, subject, client_id, properties::text, context::text FROM events e
     WHERE project_id = $1 AND timestamp >= $2 AND timestamp < $3 AND name = $4
       AND ($5::text[] IS NULL OR subject = ANY ($5))
       AND EXISTS (SELECT FROM meters m WHERE m.meter_id = $6 AND e.received_at >= m.received_from
                      AND e.timestamp < m.counted_until)
       AND";

/// The rows that answer a query.
///
/// # Errors
/// [`StoreError::Invalid`] when the period has too many events, or events of it are removed.
pub(in super::super) async fn usage(
    client: &mut deadpool_postgres::Client,
    meter: &Meter,
    query: &MeterQuery,
) -> Result<Vec<MeterRow>, StoreError> {
    // One snapshot, so that the events and the figures are those of one moment.
    let client = snapshot(client).await?;
    let (project, from, to) = (meter.project.0, Instant(query.from_us), Instant(query.to_us));
    let limit = i64::from(MINUTE_EVENTS_MAX) + 1;
    let count: i64 = client.query_one(COUNT, &[&project, &from, &to, &limit]).await?.get(0);
    if count == limit {
        return Err(too_many_events());
    }
    let subjects = Some(&query.subjects).filter(|subjects| !subjects.is_empty());
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&project, &from, &to, &meter.definition.event, &subjects, &meter.id.0];
    let rows = client.query_raw(&format!("{EVENTS} {STILL_COUNTED}"), parameters).await?;
    pin_mut!(rows);
    let mut tally = MeterTally::default();
    while let Some(row) = rows.try_next().await? {
        let (event, timestamp_us) = event(meter, &row);
        tally.add_to_buckets(meter, &event, timestamp_us, MINUTE_US);
    }
    let aggregation = meter.definition.aggregation;
    let kept = format!("SELECT coalesce(sum(events), 0)::bigint FROM ({}) f", figures(aggregation));
    let kept: i64 = client.query_one(&kept, &[&meter.id.0, &from, &to, &subjects]).await?.get(0);
    if kept != tally.events() {
        return Err(events_removed());
    }
    let mut answer = MeterAnswer::new(meter, query)?;
    answer.add_tally(tally)?;
    Ok(answer.finish())
}
