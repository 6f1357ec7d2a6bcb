//! Compares what customers have used of limits with thresholds of limits, in the transaction that adds to it.
//!
//! That transaction holds the row of `limit_usage` until it ends, so no other one adds to the same customer
//! and window meanwhile, and the next one sees what it has added. The limit is the one that is set at this
//! moment.

use std::collections::BTreeSet;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};

use crate::limit_tally::LimitTally;
use crate::thresholds::NOTIFICATION_DAYS;

const WATCHED: &str = "SELECT DISTINCT meter_id FROM thresholds WHERE kind = 'limit'";
/// A subject is not empty, so the limit of the subject comes before that of every other one. A product with a
/// decimal number is exact, and a quotient would be rounded.
const COMPARE: &str = "
    INSERT INTO notifications (threshold_id, project_id, name, kind, percent, meter, subject, period, period_start,
                               period_end, threshold, value)
    SELECT t.threshold_id, t.project_id, t.name, t.kind, t.percent, m.slug, u.subject, t.period, s.start, u.ends_at,
           l.amount * t.percent * 0.01, u.used
      FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) k (meter_id, period, subject, window_number)
      JOIN limit_usage u USING (meter_id, period, subject, window_number)
      JOIN thresholds t ON t.meter_id = u.meter_id AND t.kind = 'limit' AND t.period = u.period
                       AND (t.subject IS NULL OR t.subject = u.subject)
      JOIN meters m ON m.meter_id = u.meter_id
     CROSS JOIN LATERAL (SELECT date_trunc(u.period, u.ends_at - interval '1 microsecond', 'UTC')) s (start)
     CROSS JOIN LATERAL (SELECT amount FROM customer_limits c
                          WHERE c.meter_id = u.meter_id AND c.period = u.period AND c.subject IN (u.subject, '')
                          ORDER BY c.subject = '' LIMIT 1) l
     WHERE u.ends_at > greatest(t.created_at, now() - make_interval(days => $5))
       AND u.used * 100 >= l.amount * t.percent
       AND NOT EXISTS (SELECT FROM notifications n WHERE n.threshold_id = t.threshold_id AND n.subject = u.subject
                                                     AND n.period_start = s.start)
     ORDER BY t.threshold_id, u.subject, s.start
    ON CONFLICT (threshold_id, subject, period_start) DO NOTHING";

/// The meters whose limits have thresholds.
pub(in super::super) async fn watched(client: &Client) -> Result<BTreeSet<i64>, Error> {
    Ok(client.query(WATCHED, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Writes notifications of thresholds that these counters reach. Their rows are written already.
pub(in super::super) async fn compare(client: &Client, tally: &LimitTally) -> Result<(), Error> {
    let counters = || tally.used.keys().map(|(counter, _)| counter);
    let meters: Vec<_> = counters().map(|counter| counter.meter.0).collect();
    let periods: Vec<&str> = counters().map(|counter| counter.period.into()).collect();
    let subjects: Vec<_> = counters().map(|counter| counter.subject.as_str()).collect();
    let windows: Vec<_> = tally.used.keys().map(|(_, window)| window.cast_signed()).collect();
    let days = i32::from(NOTIFICATION_DAYS);
    let values: [&(dyn ToSql + Sync); 5] = [&meters, &periods, &subjects, &windows, &days];
    client.execute(COMPARE, &values).await.map(drop)
}
