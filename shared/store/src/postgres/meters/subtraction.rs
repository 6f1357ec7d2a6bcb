//! Takes cancelled events out of the figures of a meter, in the transaction that cancels them.
//!
//! What counts and sums is subtracted exactly. The smallest, largest or latest value is found again among the
//! events that are kept, if it was that of a cancelled event.

use std::collections::HashSet;

use futures_util::{TryStreamExt, pin_mut};
use millrace_event::meter::{Addition, Aggregation, BUCKET_US, Meter, MeterKey, MeterTally};
use millrace_event::row::Row as Event;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};

use super::super::copy::Instant;
use super::addition_rows::{AdditionRows, FaultRows};
use super::definitions::lock;
use super::figures::{move_additions, move_all};
use super::measured::STILL_COUNTED;
use crate::StoreError;
use crate::cancellations::{FoundEvent, counts_differ};

/// Rounds of moving additions before the order is carried out, at most.
const ROUNDS_MAX: u32 = 100;
/// The advisory lock of the process that moves additions, as in `figures`.
const MOVE_LOCK: &str = "SET LOCAL lock_timeout = '30s'; SELECT pg_advisory_xact_lock(1836021349)";

const SUBTRACT: &str = "
    UPDATE meter_usage u SET events = u.events - k.events, value = u.value - k.value
      FROM (SELECT subject, bucket, groups, sum(events)::bigint AS events, sum(value) AS value
              FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::bigint[], $6::text[]::numeric[])
                   a (subject, bucket, groups, events, value)
             GROUP BY subject, bucket, groups) k
     WHERE u.meter_id = $1 AND u.subject = k.subject AND u.bucket = k.bucket AND u.groups = k.groups";
/// Returns the index of each figure whose value was that of a cancelled event.
const SUBTRACT_EVENTS: &str = "
    UPDATE meter_usage u SET events = u.events - k.events
      FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::bigint[], $6::text[]::numeric[], $7::timestamptz[],
                  $8::uuid[]) WITH ORDINALITY k (subject, bucket, groups, events, value, at, id, place)
     WHERE u.meter_id = $1 AND u.subject = k.subject AND u.bucket = k.bucket AND u.groups = k.groups
    RETURNING k.place, u.events > 0
              AND CASE WHEN u.latest_at IS NULL THEN u.value = k.value ELSE (u.latest_at, u.latest_id) = (k.at, k.id) END";
const SUBTRACT_UNIQUES: &str = "
    UPDATE meter_uniques u SET events = u.events - k.events
      FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::bigint[], $6::text[])
           k (subject, bucket, groups, events, value)
     WHERE u.meter_id = $1 AND u.subject = k.subject AND u.bucket = k.bucket AND u.groups = k.groups
       AND u.value = k.value";
const REMOVE_EMPTY: &str = "
    DELETE FROM meter_usage u USING unnest($2::text[], $3::timestamptz[], $4::text[]) k (subject, bucket, groups)
     WHERE u.meter_id = $1 AND u.subject = k.subject AND u.bucket = k.bucket AND u.groups = k.groups AND u.events = 0";
const REMOVE_EMPTY_UNIQUES: &str = "
    DELETE FROM meter_uniques u
     USING unnest($2::text[], $3::timestamptz[], $4::text[], $5::text[]) k (subject, bucket, groups, value)
     WHERE u.meter_id = $1 AND u.subject = k.subject AND u.bucket = k.bucket AND u.groups = k.groups
       AND u.value = k.value AND u.events = 0";
/// Each figure is found by the key. Without statistics of a new table, the planner may compare each of these
/// figures with each of the meter.
const BY_KEY: &str = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";
const BY_ANY_WAY: &str = "SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on";
const KEPT: &str = "
    SELECT timestamp, event_id, subject, client_id, properties::text, context::text FROM events e
     WHERE project_id = $1 AND timestamp >= $2 AND timestamp < $3 AND name = $4 AND coalesce(subject, '') = $5
       AND received_at >= $6 AND timestamp < $7 AND";
const SET_VALUE: &str = "
    UPDATE meter_usage SET value = $5::text::numeric,
           latest_at = CASE WHEN latest_at IS NULL THEN NULL ELSE $6::timestamptz END,
           latest_id = CASE WHEN latest_at IS NULL THEN NULL ELSE $7::uuid END
     WHERE meter_id = $1 AND subject = $2 AND bucket = $3 AND groups = $4";
const SUBTRACT_FAULTS: &str = "
    UPDATE meter_faults f SET events = f.events - k.events FROM unnest($2::text[], $3::bigint[]) k (fault, events)
     WHERE f.meter_id = $1 AND f.fault = k.fault";
const REMOVE_FAULTS: &str = "DELETE FROM meter_faults WHERE meter_id = $1 AND events = 0";

/// Moves what waits, so that little is left to move while workers wait.
pub(in super::super) async fn move_ahead(client: &mut deadpool_postgres::Client) -> Result<(), StoreError> {
    for _ in 0..ROUNDS_MAX {
        if move_additions(client).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Keeps all others from moving additions to figures until the transaction ends. Writers continue.
pub(in super::super) async fn lock_moves(
    transaction: &deadpool_postgres::Transaction<'_>,
) -> Result<(), Error> {
    transaction.batch_execute(MOVE_LOCK).await
}

/// Keeps all others from adding to figures, moving them, and changing definitions until the transaction ends.
pub(in super::super) async fn lock_figures(
    transaction: &deadpool_postgres::Transaction<'_>,
) -> Result<(), Error> {
    lock_moves(transaction).await?;
    lock(transaction.client()).await
}

/// The days of these events of which retention has removed events or removes them now, each with the meter
/// that has counted them, or `None` for all meters.
pub(in super::super) async fn incomplete_days(
    transaction: &Client,
    found: &[FoundEvent],
) -> Result<HashSet<(Option<i64>, i64)>, Error> {
    let days: Vec<i64> = found.iter().map(FoundEvent::day).collect::<HashSet<_>>().into_iter().collect();
    let retired = "
        SELECT meter_id, day - date '1970-01-01' FROM meter_retired WHERE day - date '1970-01-01' = ANY ($1::bigint[])
        UNION ALL SELECT NULL, day - date '1970-01-01' FROM retiring";
    let rows = transaction.query(retired, &[&days]).await?;
    Ok(rows.iter().map(|row| (row.get(0), i64::from(row.get::<_, i32>(1)))).collect())
}

/// Subtracts the events of a tally, which has this meter only. Call it with [`lock_figures`], after the
/// events were recorded as cancelled.
pub(in super::super) async fn subtract(
    transaction: &Client,
    meter: &Meter,
    tally: &MeterTally,
) -> Result<(), StoreError> {
    if !tally.additions.is_empty() {
        move_all(transaction, meter).await?;
        subtract_figures(transaction, meter, tally).await?;
    }
    let FaultRows { faults, events, .. } = &FaultRows::new(tally);
    if !faults.is_empty() {
        let subtracted = transaction.execute(SUBTRACT_FAULTS, &[&meter.id.0, faults, events]).await?;
        if subtracted != faults.len() as u64 {
            return Err(counts_differ("meter_faults"));
        }
        transaction.execute(REMOVE_FAULTS, &[&meter.id.0]).await?;
    }
    Ok(())
}

async fn subtract_figures(transaction: &Client, meter: &Meter, tally: &MeterTally) -> Result<(), StoreError> {
    for key in subtract_counts(transaction, meter, tally).await? {
        let kept = value_of_kept(transaction, meter, &key).await?;
        let kept = kept.ok_or_else(|| counts_differ("meter_usage"))?;
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &meter.id.0,
            &key.subject,
            &Instant(key.bucket_us),
            &key.groups,
            &kept.value.to_string(),
            &Instant(kept.at_us),
            &kept.id,
        ];
        transaction.execute(SET_VALUE, &parameters).await?;
    }
    Ok(())
}

/// Subtracts, and returns the figures whose smallest, largest or latest value was one of those subtracted.
pub(super) async fn subtract_counts(
    transaction: &Client,
    meter: &Meter,
    tally: &MeterTally,
) -> Result<Vec<MeterKey>, StoreError> {
    let AdditionRows { subjects, buckets, groups, events, values, latest_at, latest_ids, texts, .. } =
        &AdditionRows::new(tally);
    let figures: HashSet<_> = tally.additions.values().flat_map(|figures| figures.keys()).collect();
    let id = meter.id.0;
    let aggregation = meter.definition.aggregation;
    let (mut lost_values, mut table) = (Vec::new(), "meter_usage");
    transaction.batch_execute(BY_KEY).await?;
    let subtracted = match aggregation {
        Aggregation::Count | Aggregation::Sum | Aggregation::Avg => {
            transaction.execute(SUBTRACT, &[&id, subjects, buckets, groups, events, values]).await?
        }
        Aggregation::UniqueCount => {
            table = "meter_uniques";
            transaction.execute(SUBTRACT_UNIQUES, &[&id, subjects, buckets, groups, events, texts]).await?
        }
        Aggregation::Min | Aggregation::Max | Aggregation::Latest => {
            let parameters: [&(dyn ToSql + Sync); 8] =
                [&id, subjects, buckets, groups, events, values, latest_at, latest_ids];
            let rows = transaction.query(SUBTRACT_EVENTS, &parameters).await?;
            let is_lost = |row: &&tokio_postgres::Row| row.get(1);
            lost_values.extend(rows.iter().filter(is_lost).map(|row| row.get::<_, i64>(0) - 1));
            rows.len() as u64
        }
    };
    if subtracted != figures.len() as u64 {
        return Err(counts_differ(table));
    }
    if aggregation == Aggregation::UniqueCount {
        transaction.execute(REMOVE_EMPTY_UNIQUES, &[&id, subjects, buckets, groups, texts]).await?;
    } else {
        transaction.execute(REMOVE_EMPTY, &[&id, subjects, buckets, groups]).await?;
    }
    transaction.batch_execute(BY_ANY_WAY).await?;
    let key = |place: i64| {
        let place = usize::try_from(place).expect("ordinality begins at 1");
        MeterKey {
            subject: subjects[place].to_owned(),
            bucket_us: buckets[place].0,
            groups: groups[place].to_owned(),
            text: String::new(),
        }
    };
    Ok(lost_values.into_iter().map(key).collect())
}

/// The figure of the events that are kept and not cancelled.
async fn value_of_kept(
    transaction: &Client,
    meter: &Meter,
    key: &MeterKey,
) -> Result<Option<Addition>, StoreError> {
    let (from, to) = (Instant(key.bucket_us), Instant(key.bucket_us + BUCKET_US));
    let received_from = Instant(meter.received_from_us);
    let counted_until = Instant(meter.counted_until_us);
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&meter.project.0, &from, &to, &meter.definition.event, &key.subject, &received_from, &counted_until];
    let rows = transaction.query_raw(&format!("{KEPT} {STILL_COUNTED}"), parameters).await?;
    pin_mut!(rows);
    let mut tally = MeterTally::default();
    while let Some(row) = rows.try_next().await? {
        let json = |column| row.get::<_, Option<&str>>(column).map(str::as_bytes);
        let bare = Event::bare(meter.project, row.get(1), &meter.definition.event);
        let (subject, client_id) = (row.get(2), row.get(3));
        let event = Event { subject, client_id, properties: json(4), context: json(5), ..bare };
        tally.add_to(meter, &event, row.get::<_, Instant>(0).0);
    }
    let kept = tally.additions.get(&meter.id).and_then(|figures| figures.get(key));
    // Additions of one value always merge.
    Ok(kept.and_then(|additions| additions.first().copied()))
}
