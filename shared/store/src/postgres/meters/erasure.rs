//! Moves figures of an erased subject to a pseudonym, in the transaction that erases events. Call every
//! function with the lock of the figures.

use futures_util::{TryStreamExt, pin_mut};
use millrace_event::meter::{Aggregation, BUCKET_US, Meter, MeterTally};
use millrace_event::row::Row as Event;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};

use super::super::copy::Instant;
use super::additions::MeterStatements;
use super::figures::move_all;
use super::measured::STILL_COUNTED;
use super::subtraction::{subtract, subtract_counts};
use crate::StoreError;
use crate::erasures::{FigureRow, MovedFigures, QUARTERS_MAX, Renaming};
use crate::meters::is_unique;

/// Quarters of days of which retention has removed events, or removes them now.
const QUARTERS: &str = "
    SELECT DISTINCT bucket FROM TABLE
     WHERE meter_id = $1 AND subject = $2 AND bucket > $3
       AND (bucket AT TIME ZONE 'UTC')::date IN (SELECT day FROM meter_retired WHERE meter_id = $1
                                                 UNION ALL SELECT day FROM retiring)
     ORDER BY bucket LIMIT $4";
const TAKE_USAGE: &str = "
    DELETE FROM meter_usage WHERE meter_id = $1 AND subject = $2 AND bucket = ANY ($3)
    RETURNING bucket, groups, events, value::text, latest_at, latest_id, ''";
const TAKE_UNIQUES: &str = "
    DELETE FROM meter_uniques WHERE meter_id = $1 AND subject = $2 AND bucket = ANY ($3)
    RETURNING bucket, groups, events, NULL::text, NULL::timestamptz, NULL::uuid, value";
const GIVE: &str = r#"
    INSERT INTO meter_additions (meter_id, subjects, buckets, groups, events, "values", latest_at, latest_ids, texts)
    VALUES ($1, array_fill($2::text, ARRAY[cardinality($3::timestamptz[])]), $3, $4, $5, $6::text[]::numeric[], $7,
            $8, $9)"#;
const KEPT: &str = "
    SELECT timestamp, event_id, client_id, properties::text, context::text FROM events e
     WHERE project_id = $1 AND timestamp >= $2 AND timestamp < $3 AND name = $4 AND subject = $5
       AND date_bin('15 minutes', timestamp, 'epoch'::timestamptz) = ANY ($6)
       AND received_at >= $7 AND timestamp < $8 AND";
/// Values that no other subject has, so that they are only the erased one's.
const OWN_VALUES: &str = "
    UPDATE meter_uniques u SET value = 'erased-' || left(encode(sha256(convert_to($3 || u.value, 'UTF8')), 'hex'), 32)
     WHERE u.meter_id = $1 AND u.subject = $2 AND u.value <> $2
       AND NOT EXISTS (SELECT FROM meter_uniques o
                        WHERE o.meter_id = $1 AND o.value = u.value AND o.subject <> $2)";

/// Moves what the erased events added to one meter.
pub(in super::super) async fn hand_over(
    transaction: &Client,
    meter: &Meter,
    moved: &MovedFigures,
) -> Result<(), StoreError> {
    let taken = of_meter(&moved.taken, meter);
    if !taken.is_empty() {
        subtract(transaction, meter, &taken).await?;
        add(transaction, meter, &of_meter(&moved.given, meter)).await?;
    }
    Ok(())
}

fn of_meter(tally: &MeterTally, meter: &Meter) -> MeterTally {
    let mut one = MeterTally::default();
    one.additions.extend(tally.additions.get(&meter.id).map(|figures| (meter.id, figures.clone())));
    one
}

/// Adds to the figures themselves. No threshold is compared: nothing new was counted.
async fn add(transaction: &Client, meter: &Meter, tally: &MeterTally) -> Result<(), Error> {
    MeterStatements::prepare(transaction).await?.add(transaction, tally).await?;
    move_all(transaction, meter).await
}

/// Moves the figures of the next quarters whose events are not all kept. Returns the last of these quarters.
pub(in super::super) async fn hand_over_quarters(
    transaction: &Client,
    meter: &Meter,
    renaming: Renaming<'_>,
    after_us: i64,
) -> Result<Option<i64>, StoreError> {
    move_all(transaction, meter).await?;
    let is_unique = is_unique(meter.definition.aggregation);
    let table = if is_unique { "meter_uniques" } else { "meter_usage" };
    let id = meter.id.0;
    let parameters: [&(dyn ToSql + Sync); 4] = [&id, &renaming.subject, &Instant(after_us), &QUARTERS_MAX];
    let rows = transaction.query(&QUARTERS.replace("TABLE", table), &parameters).await?;
    let quarters: Vec<Instant> = rows.iter().map(|row| row.get(0)).collect();
    let Some(last) = quarters.last() else { return Ok(None) };
    let take = if is_unique { TAKE_UNIQUES } else { TAKE_USAGE };
    let rows = transaction.query(take, &[&id, &renaming.subject, &quarters]).await?;
    give(transaction, meter, renaming, rows.iter().map(figure_row).collect()).await?;
    // The subject has new events of these quarters. Of the smallest, largest and latest value it is not known
    // whose it is, so the pseudonym keeps it.
    let kept = kept(transaction, meter, renaming.subject, &quarters).await?;
    if !kept.is_empty() {
        subtract_counts(transaction, meter, &renaming.tally(&kept)).await?;
        add(transaction, meter, &kept).await?;
    }
    Ok(Some(last.0))
}

/// Reads `bucket`, `groups`, `events`, `value`, `latest_at`, `latest_id` and `text`.
pub(in super::super) fn figure_row(row: &Row) -> FigureRow {
    FigureRow {
        bucket_us: row.get::<_, Instant>(0).0,
        groups: row.get(1),
        events: row.get(2),
        value: row.get(3),
        latest_at_us: row.get::<_, Option<Instant>>(4).map(|at| at.0),
        latest_id: row.get(5),
        text: row.get(6),
    }
}

async fn give(
    transaction: &Client,
    meter: &Meter,
    renaming: Renaming<'_>,
    rows: Vec<FigureRow>,
) -> Result<(), Error> {
    let aggregation = meter.definition.aggregation;
    let buckets: Vec<_> = rows.iter().map(|row| Instant(row.bucket_us)).collect();
    let groups: Vec<_> = rows.iter().map(|row| renaming.groups(&row.groups)).collect();
    let events: Vec<_> = rows.iter().map(|row| row.events).collect();
    let values: Option<Vec<_>> = rows.iter().map(|row| row.value.clone()).collect();
    let is_latest = aggregation == Aggregation::Latest;
    let latest_at: Option<Vec<_>> = rows.iter().map(|row| row.latest_at_us.map(Instant)).collect();
    let latest_ids: Option<Vec<_>> = rows.iter().map(|row| row.latest_id).collect();
    let texts: Vec<_> = rows.iter().map(|row| renaming.text(&row.text)).collect();
    let parameters: [&(dyn ToSql + Sync); 9] = [
        &meter.id.0,
        &renaming.pseudonym,
        &buckets,
        &groups,
        &events,
        &values.filter(|_| aggregation != Aggregation::Count),
        &latest_at.filter(|_| is_latest),
        &latest_ids.filter(|_| is_latest),
        &is_unique(aggregation).then_some(texts),
    ];
    transaction.execute(GIVE, &parameters).await?;
    move_all(transaction, meter).await
}

/// What the subject's events that are kept add to figures of these quarters.
async fn kept(
    transaction: &Client,
    meter: &Meter,
    subject: &str,
    quarters: &[Instant],
) -> Result<MeterTally, StoreError> {
    let mut tally = MeterTally::default();
    let (Some(first), Some(last)) = (quarters.first(), quarters.last()) else { return Ok(tally) };
    let parameters: [&(dyn ToSql + Sync); 8] = [
        &meter.project.0,
        first,
        &Instant(last.0 + BUCKET_US),
        &meter.definition.event,
        &subject,
        &quarters,
        &Instant(meter.received_from_us),
        &Instant(meter.counted_until_us),
    ];
    let rows = transaction.query_raw(&format!("{KEPT} {STILL_COUNTED}"), parameters).await?;
    pin_mut!(rows);
    while let Some(row) = rows.try_next().await? {
        let json = |column| row.get::<_, Option<&str>>(column).map(str::as_bytes);
        let bare = Event::bare(meter.project, row.get(1), &meter.definition.event);
        let client_id = row.get(2);
        let event =
            Event { subject: Some(subject), client_id, properties: json(3), context: json(4), ..bare };
        tally.add_to(meter, &event, row.get::<_, Instant>(0).0);
    }
    tally.faults.clear();
    Ok(tally)
}

/// Replaces the different values that only the pseudonym has. Their number stays the same.
pub(in super::super) async fn hide_values(
    transaction: &Client,
    meter: &Meter,
    pseudonym: &str,
) -> Result<(), StoreError> {
    if is_unique(meter.definition.aggregation) {
        move_all(transaction, meter).await?;
        let salt = uuid::Uuid::new_v4().to_string();
        transaction.execute(OWN_VALUES, &[&meter.id.0, &pseudonym, &salt]).await?;
    }
    Ok(())
}
