//! Moves additions to the figures, and reads what is not counted.

use millrace_event::meter::{Aggregation, Meter};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};

use super::super::copy::Instant;
use super::super::thresholds;
use crate::meters::fault_of;
use crate::{MeterFaultCount, StoreError};

/// The advisory lock of the process that moves additions ("move").
const LOCK: &str = "SELECT pg_try_advisory_xact_lock(1836021349)";
const SETTINGS: &str = "SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '5s'";
/// Rows of `meter_additions` that one transaction moves, at most.
const ROWS_MAX: i64 = 500;
/// Rows of deleted meters that one transaction removes, at most.
const REMOVED_MAX: i64 = 20_000;

const WAITING: &str = "
    SELECT w.meter_id, m.aggregation, m.deleted_at IS NOT NULL
      FROM (WITH RECURSIVE w AS (
                (SELECT meter_id FROM meter_additions ORDER BY meter_id LIMIT 1)
                UNION ALL
                SELECT (SELECT a.meter_id FROM meter_additions a WHERE a.meter_id > w.meter_id
                         ORDER BY a.meter_id LIMIT 1) FROM w WHERE w.meter_id IS NOT NULL)
            SELECT meter_id FROM w WHERE meter_id IS NOT NULL) w
      JOIN meters m USING (meter_id)";
const TAKEN: &str = "
    WITH taken AS (
        DELETE FROM meter_additions
         WHERE meter_id = $1 AND addition_id IN (SELECT addition_id FROM meter_additions WHERE meter_id = $1
                                                  ORDER BY addition_id LIMIT $2)
        RETURNING *)";
const ADD_SUMS: &str = r#"
    INSERT INTO meter_usage AS u (meter_id, subject, bucket, groups, events, value)
    SELECT $1, a.subject, a.bucket, a.groups, sum(a.events)::bigint, coalesce(sum(a.value), 0)
      FROM taken, unnest(subjects, buckets, groups, events, "values") a (subject, bucket, groups, events, value)
     GROUP BY a.subject, a.bucket, a.groups ORDER BY a.subject, a.bucket, a.groups
    ON CONFLICT (meter_id, subject, bucket, groups) DO UPDATE
       SET events = u.events + excluded.events, value = u.value + excluded.value"#;
const ADD_EXTREMES: &str = r#"
    INSERT INTO meter_usage AS u (meter_id, subject, bucket, groups, events, value)
    SELECT $1, a.subject, a.bucket, a.groups, sum(a.events)::bigint, EXTREME(a.value)
      FROM taken, unnest(subjects, buckets, groups, events, "values") a (subject, bucket, groups, events, value)
     GROUP BY a.subject, a.bucket, a.groups ORDER BY a.subject, a.bucket, a.groups
    ON CONFLICT (meter_id, subject, bucket, groups) DO UPDATE
       SET events = u.events + excluded.events, value = OF_TWO(u.value, excluded.value)"#;
const ADD_LATEST: &str = r#"
    INSERT INTO meter_usage AS u (meter_id, subject, bucket, groups, events, value, latest_at, latest_id)
    SELECT $1, a.subject, a.bucket, a.groups, sum(a.events)::bigint,
           (array_agg(a.value ORDER BY a.at DESC, a.id DESC))[1], (array_agg(a.at ORDER BY a.at DESC, a.id DESC))[1],
           (array_agg(a.id ORDER BY a.at DESC, a.id DESC))[1]
      FROM taken, unnest(subjects, buckets, groups, events, "values", latest_at, latest_ids)
                  a (subject, bucket, groups, events, value, at, id)
     GROUP BY a.subject, a.bucket, a.groups ORDER BY a.subject, a.bucket, a.groups
    ON CONFLICT (meter_id, subject, bucket, groups) DO UPDATE
       SET events = u.events + excluded.events,
           value = CASE WHEN (excluded.latest_at, excluded.latest_id) > (u.latest_at, u.latest_id)
                        THEN excluded.value ELSE u.value END,
           latest_at = CASE WHEN (excluded.latest_at, excluded.latest_id) > (u.latest_at, u.latest_id)
                            THEN excluded.latest_at ELSE u.latest_at END,
           latest_id = CASE WHEN (excluded.latest_at, excluded.latest_id) > (u.latest_at, u.latest_id)
                            THEN excluded.latest_id ELSE u.latest_id END"#;
const ADD_UNIQUES: &str = "
    INSERT INTO meter_uniques AS u (meter_id, subject, bucket, groups, value, events)
    SELECT $1, a.subject, a.bucket, a.groups, a.value, sum(a.events)::bigint
      FROM taken, unnest(subjects, buckets, groups, events, texts) a (subject, bucket, groups, events, value)
     GROUP BY a.subject, a.bucket, a.groups, a.value ORDER BY a.subject, a.bucket, a.groups, a.value
    ON CONFLICT (meter_id, subject, bucket, groups, value) DO UPDATE SET events = u.events + excluded.events";
const FAULTS: &str =
    "SELECT fault, events, sample, last_at FROM meter_faults WHERE meter_id = $1 ORDER BY events DESC, fault";

/// Moves additions that wait, of each meter once, and removes figures of deleted meters. Returns how many
/// rows it moved or removed; 0 when there is nothing to do, or another process does it.
pub(in super::super) async fn move_additions(
    client: &mut deadpool_postgres::Client,
) -> Result<u64, StoreError> {
    let mut moved = 0;
    for row in client.query(WAITING, &[]).await? {
        let (meter, is_deleted): (i64, bool) = (row.get(0), row.get(2));
        let aggregation: &str = row.get(1);
        let aggregation = aggregation.parse().map_err(|error| {
            StoreError::Invalid(format!("meter {meter} has the unknown aggregation {aggregation:?}: {error}"))
        })?;
        let addition = if is_deleted { "SELECT 1 FROM taken".to_owned() } else { addition(aggregation) };
        let transaction = client.transaction().await?;
        transaction.batch_execute(SETTINGS).await?;
        if !transaction.query_one(LOCK, &[]).await?.get::<_, bool>(0) {
            return Ok(moved);
        }
        // In this transaction, so that a threshold is compared with all that is moved after it was set.
        moved += if !is_deleted && thresholds::has_thresholds(&transaction, meter).await? {
            let meter = (meter, aggregation);
            thresholds::move_and_compare(&transaction, meter, (TAKEN, &addition), ROWS_MAX).await?
        } else {
            let statement = transaction.prepare_cached(&format!("{TAKEN} {addition}")).await?;
            let parameters: [&(dyn ToSql + Sync); 2] = [&meter, &ROWS_MAX];
            transaction.execute(&statement, &parameters).await?
        };
        transaction.commit().await?;
    }
    Ok(moved + remove_deleted(client).await?)
}

/// Moves everything that waits of a meter, in the transaction of the caller, which holds the lock.
pub(super) async fn move_all(transaction: &Client, meter: &Meter) -> Result<(), Error> {
    let statement = format!("{TAKEN} {}", addition(meter.definition.aggregation));
    let all: Option<i64> = None;
    transaction.execute(&statement, &[&meter.id.0, &all]).await.map(drop)
}

fn addition(aggregation: Aggregation) -> String {
    let extremes =
        |of_all: &str, of_two: &str| ADD_EXTREMES.replace("EXTREME", of_all).replace("OF_TWO", of_two);
    match aggregation {
        Aggregation::Count | Aggregation::Sum | Aggregation::Avg => ADD_SUMS.to_owned(),
        Aggregation::Min => extremes("min", "least"),
        Aggregation::Max => extremes("max", "greatest"),
        Aggregation::Latest => ADD_LATEST.to_owned(),
        Aggregation::UniqueCount => ADD_UNIQUES.to_owned(),
    }
}

/// Removes figures of deleted meters, and the meters that have none left.
async fn remove_deleted(client: &deadpool_postgres::Client) -> Result<u64, StoreError> {
    let deleted = "SELECT meter_id FROM meters WHERE deleted_at IS NOT NULL ORDER BY meter_id LIMIT 10";
    let mut removed = 0;
    for row in client.query(deleted, &[]).await? {
        let meter: i64 = row.get(0);
        let mut left = 0;
        for table in [
            "meter_additions",
            "meter_usage",
            "meter_uniques",
            "meter_faults",
            "meter_retired",
            "meter_erased",
        ] {
            let remove = format!(
                "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE meter_id = $1 LIMIT $2))"
            );
            left += client.execute(&remove, &[&meter, &REMOVED_MAX]).await?;
        }
        if left == 0 {
            client
                .execute("DELETE FROM meters WHERE meter_id = $1 AND deleted_at IS NOT NULL", &[&meter])
                .await?;
        }
        removed += left;
    }
    Ok(removed)
}

/// What a meter does not count, the most frequent first.
pub(in super::super) async fn faults(
    client: &deadpool_postgres::Client,
    meter: i64,
) -> Result<Vec<MeterFaultCount>, StoreError> {
    let rows = client.query(FAULTS, &[&meter]).await?;
    let count = |row: &tokio_postgres::Row| {
        Ok(MeterFaultCount {
            fault: fault_of(row.get(0))?,
            events: row.get::<_, i64>(1).unsigned_abs(),
            sample: row.get(2),
            last_at: row.get::<_, Instant>(3).into(),
        })
    };
    rows.iter().map(count).collect()
}
