//! Compares figures of meters with thresholds, in the transaction that moves additions to the figures.
//!
//! One process moves at a time, so nothing else adds to the figures meanwhile. Reading all figures of a
//! period for each addition would be slow: `threshold_values` has a value for each subject that is never less
//! than its figure, and only when that value reaches the threshold, the figures are read.

use deadpool_postgres::Transaction;
use millrace_event::meter::Aggregation;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::super::copy::Instant;
use crate::thresholds::NOTIFICATION_DAYS;

const HAS: &str = "SELECT EXISTS (SELECT FROM thresholds WHERE meter_id = $1 AND kind = 'meter')";
/// Follows the statement that adds to the figures. AMOUNT and MERGED depend on the aggregation.
const TOUCH: &str = r#"
    touched AS (
        INSERT INTO threshold_values AS v (threshold_id, subject, period_start, value)
        SELECT t.threshold_id, a.subject, p.start, AMOUNT
          FROM taken CROSS JOIN LATERAL unnest(subjects, buckets, events, "values") a (subject, bucket, events, value)
          JOIN thresholds t ON t.meter_id = $1 AND t.kind = 'meter' AND (t.subject IS NULL OR t.subject = a.subject)
         CROSS JOIN LATERAL (SELECT date_trunc(t.period, a.bucket, 'UTC')) p (start)
         CROSS JOIN LATERAL (SELECT (p.start AT TIME ZONE 'UTC' + ('1 ' || t.period)::interval) AT TIME ZONE 'UTC') e (ends)
         WHERE a.subject <> '' AND e.ends > greatest(t.created_at, now() - make_interval(days => $3))
           AND NOT EXISTS (SELECT FROM notifications n WHERE n.threshold_id = t.threshold_id AND n.subject = a.subject
                                                         AND n.period_start = p.start)
         GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (threshold_id, subject, period_start) DO UPDATE SET value = MERGED
        RETURNING threshold_id, subject, period_start, value, is_whole)
    SELECT (SELECT count(*) FROM moved), coalesce(array_agg(u.threshold_id), '{}'), coalesce(array_agg(u.subject), '{}'),
           coalesce(array_agg(u.period_start), '{}')
      FROM touched u JOIN thresholds t USING (threshold_id) WHERE NOT u.is_whole OR u.value >= t.value"#;
const COMPARE: &str = "
    WITH exact AS (
        SELECT t.threshold_id, t.project_id, t.name, t.kind, m.slug, d.subject, t.period, d.start, e.ends,
               t.value AS threshold, f.value
          FROM unnest($2::bigint[], $3::text[], $4::timestamptz[]) d (threshold_id, subject, start)
          JOIN thresholds t USING (threshold_id) JOIN meters m ON m.meter_id = $1
         CROSS JOIN LATERAL (SELECT (d.start AT TIME ZONE 'UTC' + ('1 ' || t.period)::interval) AT TIME ZONE 'UTC') e (ends)
         CROSS JOIN LATERAL (SELECT FIGURE u WHERE u.meter_id = $1 AND u.subject = d.subject
                                                AND u.bucket >= d.start AND u.bucket < e.ends) f (value)),
    below AS (
        UPDATE threshold_values v SET value = x.value, is_whole = true FROM exact x
         WHERE (v.threshold_id, v.subject, v.period_start) = (x.threshold_id, x.subject, x.start)
           AND x.value < x.threshold),
    reached AS (
        DELETE FROM threshold_values v USING exact x
         WHERE (v.threshold_id, v.subject, v.period_start) = (x.threshold_id, x.subject, x.start)
           AND x.value >= x.threshold)
    INSERT INTO notifications (threshold_id, project_id, name, kind, meter, subject, period, period_start, period_end,
                               threshold, value)
    SELECT threshold_id, project_id, name, kind, slug, subject, period, start, ends, threshold, value
      FROM exact WHERE value >= threshold ORDER BY threshold_id, subject, start
    ON CONFLICT (threshold_id, subject, period_start) DO NOTHING";

/// Whether a meter has thresholds.
pub(in super::super) async fn has_thresholds(
    transaction: &Transaction<'_>,
    meter: i64,
) -> Result<bool, Error> {
    let statement = transaction.prepare_cached(HAS).await?;
    Ok(transaction.query_one(&statement, &[&meter]).await?.get(0))
}

/// Moves additions of a meter that has thresholds to its figures, and writes notifications of those that are
/// reached. `taken` is the start of the statement that moves them, and `addition` its end. Returns how many
/// rows were moved.
pub(in super::super) async fn move_and_compare(
    transaction: &Transaction<'_>,
    (meter, aggregation): (i64, Aggregation),
    (taken, addition): (&str, &str),
    rows_max: i64,
) -> Result<u64, Error> {
    let (amount, merged) = match aggregation {
        Aggregation::Sum => ("sum(a.value)", "v.value + excluded.value"),
        Aggregation::Max => ("max(a.value)", "greatest(v.value, excluded.value)"),
        // There is an addition for each value, of which the figures may have some already.
        Aggregation::UniqueCount => ("count(*)", "v.value + excluded.value"),
        _ => ("sum(a.events)", "v.value + excluded.value"),
    };
    let touch = TOUCH.replace("AMOUNT", amount).replace("MERGED", merged);
    let statement = format!("{taken}, moved AS ({addition} RETURNING 1), {touch}");
    let statement = transaction.prepare_cached(&statement).await?;
    let days = i32::from(NOTIFICATION_DAYS);
    let parameters: [&(dyn ToSql + Sync); 3] = [&meter, &rows_max, &days];
    let row = transaction.query_one(&statement, &parameters).await?;
    let due: (Vec<i64>, Vec<String>, Vec<Instant>) = (row.get(1), row.get(2), row.get(3));
    if !due.0.is_empty() {
        let figure = match aggregation {
            Aggregation::Sum => "coalesce(sum(u.value), 0) FROM meter_usage",
            Aggregation::Max => "coalesce(max(u.value), 0) FROM meter_usage",
            Aggregation::UniqueCount => "count(DISTINCT u.value) FROM meter_uniques",
            _ => "coalesce(sum(u.events), 0) FROM meter_usage",
        };
        let statement = transaction.prepare_cached(&COMPARE.replace("FIGURE", figure)).await?;
        transaction.execute(&statement, &[&meter, &due.0, &due.1, &due.2]).await?;
    }
    Ok(row.get::<_, i64>(0).unsigned_abs())
}
