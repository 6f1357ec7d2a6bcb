//! Cancels events in one transaction: the record, usage, and the meters.
//!
//! The transaction holds the lock of the definitions of meters, alone. Every transaction that stores events,
//! counts stored ones or removes them holds it shared until it has ended, so all statements here see the same
//! events and the same figures. Workers wait meanwhile.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use millrace_event::meter::{MeterSet, MeterTally};
use millrace_event::plan::ProjectId;
use millrace_failpoint::{self as failpoint, Point};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::copy::Instant;
use super::deadline::{LONG, within};
use super::store::PostgresStore;
use super::{distribution, meters};
use crate::cancellations::{self, Cancelling, FoundEvent};
use crate::{CancelOrder, CancelOutcome, Cancellations, StoreError};

/// The events are searched by the key, also in a table that has few rows.
const SETTINGS: &str = "SET LOCAL enable_seqscan = off; SET LOCAL millrace.counts_meters = 'on'";
const CLAIMS: &str =
    "SELECT event_id, timestamp FROM undated_ids WHERE project_id = $1 AND event_id = ANY ($2)";
pub(super) const COLUMNS: &str =
    "e.timestamp, e.event_id, e.received_at, e.name, e.subject, e.client_id, e.properties::text,
           e.context::text";
/// The bounds exclude partitions, as in the statements of writers.
const FIND: &str = "
      FROM unnest($2::int[], $3::timestamptz[], $4::uuid[]) k (place, timestamp, event_id),
           LATERAL (SELECT * FROM EVENTS e
                     WHERE e.project_id = $1 AND e.timestamp = k.timestamp AND e.event_id = k.event_id
                       AND e.timestamp BETWEEN $5 AND $6
                     LIMIT 1) e
     ORDER BY k.place";
/// Citus does not plan the statement for several events.
const FIND_ONE: &str = "FROM events e WHERE e.project_id = $1 AND e.timestamp = $3 AND e.event_id = $4";
const CANCELLED: &str = "
    SELECT timestamp, event_id, received_at FROM cancellations
     WHERE project_id = $1 AND (timestamp, event_id) IN (SELECT * FROM unnest($2::timestamptz[], $3::uuid[]))";
const PSEUDONYMS: &str =
    "SELECT pseudonym, received_before FROM erasures WHERE project_id = $1 AND pseudonym = ANY ($2)";
const RECORD: &str = "
    INSERT INTO cancellations (project_id, timestamp, event_id, received_at, cancelled_by, reason)
    SELECT $1, k.*, $5, $6 FROM unnest($2::timestamptz[], $3::uuid[], $4::timestamptz[]) k";
/// Without statistics, the planner takes a table with its first 1,000 rows for one with 5, and compares each
/// event that it reads with all of them: 25 s for 100,000 events. Autovacuum notices a minute later.
const IS_SMALL: &str = "SELECT reltuples < 10000 FROM pg_class WHERE oid = 'cancellations'::regclass";
const CORRECT_USAGE: &str =
    "UPDATE usage_hourly SET cancelled = cancelled + $3 WHERE project_id = $1 AND hour = $2";

#[async_trait]
impl Cancellations for PostgresStore {
    async fn cancel_events(&self, order: &CancelOrder) -> Result<Vec<CancelOutcome>, StoreError> {
        within(LONG, async { cancel(&mut self.client().await?, order).await }).await
    }
}

async fn cancel(
    client: &mut deadpool_postgres::Client,
    order: &CancelOrder,
) -> Result<Vec<CancelOutcome>, StoreError> {
    cancellations::check(order)?;
    if let Some(outcomes) = outcomes_without_change(client, order).await? {
        return Ok(outcomes);
    }
    // Workers wait for what is left to move afterwards.
    meters::move_ahead(client).await?;
    let transaction = client.transaction().await?;
    meters::lock_figures(&transaction).await?;
    transaction.batch_execute(SETTINGS).await?;
    let found = find(transaction.client(), order).await?;
    let infos = meters::meters(transaction.client(), Some(order.project)).await?;
    let set = MeterSet::new(infos.into_iter().map(|info| info.meter));
    let incomplete = meters::incomplete_days(transaction.client(), &found).await?;
    let is_incomplete =
        |meter, day| incomplete.contains(&(None, day)) || incomplete.contains(&(Some(meter), day));
    let cancelling = Cancelling::new(order, found, &set, is_incomplete);
    if cancelling.events.is_empty() {
        return Ok(cancelling.outcomes);
    }
    record(transaction.client(), order, &cancelling.events).await?;
    for (hour_us, events) in cancelling.hours() {
        let parameters: [&(dyn ToSql + Sync); 3] = [&order.project.0, &Instant(hour_us), &events];
        if transaction.execute(CORRECT_USAGE, &parameters).await? == 0 {
            return Err(cancellations::counts_differ("usage"));
        }
    }
    for event in names(&cancelling.events) {
        for meter in set.of(order.project, event) {
            let mut tally = MeterTally::default();
            for found in cancelling.events.iter().filter(|found| found.name == event) {
                if meter.counts(found.timestamp_us, found.received_us) {
                    tally.add_to(meter, &found.row(order.project), found.timestamp_us);
                }
            }
            meters::subtract(transaction.client(), meter, &tally).await?;
        }
    }
    failpoint::reach(Point::CancelledInTransaction);
    transaction.commit().await?;
    failpoint::reach(Point::CancelCommitted);
    Ok(cancelling.outcomes)
}

/// The outcomes of an order without an event to cancel: no worker waits for it.
async fn outcomes_without_change(
    client: &mut deadpool_postgres::Client,
    order: &CancelOrder,
) -> Result<Option<Vec<CancelOutcome>>, StoreError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(SETTINGS).await?;
    let found = find(transaction.client(), order).await?;
    let cancelling = Cancelling::new(order, found, &MeterSet::default(), |_, _| false);
    Ok(cancelling.events.is_empty().then_some(cancelling.outcomes))
}

fn names(events: &[FoundEvent]) -> BTreeSet<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

async fn record(transaction: &Client, order: &CancelOrder, events: &[FoundEvent]) -> Result<(), Error> {
    let timestamps: Vec<_> = events.iter().map(|event| Instant(event.timestamp_us)).collect();
    let ids: Vec<_> = events.iter().map(|event| event.event_id).collect();
    let received: Vec<_> = events.iter().map(|event| Instant(event.received_us)).collect();
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&order.project.0, &timestamps, &ids, &received, &order.by, &order.reason];
    transaction.execute(RECORD, &parameters).await?;
    if transaction.query_one(IS_SMALL, &[]).await?.get(0) {
        transaction.batch_execute("ANALYZE cancellations").await?;
    }
    Ok(())
}

/// The stored events of an order, in its order.
async fn find(transaction: &Client, order: &CancelOrder) -> Result<Vec<FoundEvent>, Error> {
    let by_timestamp = order.events.iter().enumerate();
    let keys: Vec<_> = by_timestamp
        .filter_map(|(index, event)| Some((index, Instant(event.timestamp_us?), event.event_id)))
        .collect();
    let mut found = find_keys(transaction, order.project, "events", &keys).await?;
    let is_found = |index| found.iter().any(|event: &FoundEvent| event.index == index);
    let by_id: Vec<_> = order
        .events
        .iter()
        .enumerate()
        .filter(|(index, event)| (event.by_id || event.timestamp_us.is_none()) && !is_found(*index))
        .collect();
    if !by_id.is_empty() {
        let ids: Vec<Uuid> = by_id.iter().map(|(_, event)| event.event_id).collect();
        let rows = transaction.query(CLAIMS, &[&order.project.0, &ids]).await?;
        let claims: HashMap<Uuid, Instant> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let claimed = by_id
            .into_iter()
            .filter_map(|(index, event)| Some((index, *claims.get(&event.event_id)?, event.event_id)));
        let claimed: Vec<_> = claimed.collect();
        found.extend(find_keys(transaction, order.project, "events", &claimed).await?);
    }
    found.sort_by_key(|event| event.index);
    mark_cancelled(transaction, order.project, &mut found).await?;
    mark_anonymized(transaction, order.project, &mut found).await?;
    Ok(found)
}

/// The stored events with these keys, each with its index, in `events` or in a partition that was detached.
/// It does not say which of them are cancelled.
pub(super) async fn find_keys(
    transaction: &Client,
    project: ProjectId,
    table: &str,
    keys: &[(usize, Instant, Uuid)],
) -> Result<Vec<FoundEvent>, Error> {
    let bounds = keys.iter().map(|key| key.1).min().zip(keys.iter().map(|key| key.1).max());
    let Some((first, last)) = bounds else { return Ok(Vec::new()) };
    let mut found = Vec::with_capacity(keys.len());
    if distribution::is_distributed(transaction).await? {
        let select = transaction.prepare(&format!("SELECT $2::int, {COLUMNS} {FIND_ONE}")).await?;
        for (index, timestamp, id) in keys {
            let place = super::parameters::number(*index);
            let parameters: [&(dyn ToSql + Sync); 4] = [&project.0, &place, timestamp, id];
            found.extend(transaction.query(&select, &parameters).await?.iter().map(found_event));
        }
        return Ok(found);
    }
    let places: Vec<i32> = keys.iter().map(|key| super::parameters::number(key.0)).collect();
    let timestamps: Vec<Instant> = keys.iter().map(|key| key.1).collect();
    let ids: Vec<Uuid> = keys.iter().map(|key| key.2).collect();
    let parameters: [&(dyn ToSql + Sync); 6] = [&project.0, &places, &timestamps, &ids, &first, &last];
    let select = format!("SELECT k.place, {COLUMNS} {}", FIND.replace("EVENTS", table));
    let rows = transaction.query(&select, &parameters).await?;
    found.extend(rows.iter().map(found_event));
    Ok(found)
}

/// Reads an index and [`COLUMNS`].
pub(super) fn found_event(row: &Row) -> FoundEvent {
    let json = |column| row.get::<_, Option<String>>(column).map(String::into_bytes);
    FoundEvent {
        index: row.get::<_, i32>(0).unsigned_abs() as usize,
        timestamp_us: row.get::<_, Instant>(1).0,
        event_id: row.get(2),
        received_us: row.get::<_, Instant>(3).0,
        name: row.get(4),
        subject: row.get(5),
        client_id: row.get(6),
        properties: json(7),
        context: json(8),
        is_cancelled: false,
        is_anonymized: false,
    }
}

/// Says of each of these events whether it is cancelled.
pub(super) async fn mark_cancelled(
    transaction: &Client,
    project: ProjectId,
    found: &mut [FoundEvent],
) -> Result<(), Error> {
    let timestamps: Vec<_> = found.iter().map(|event| Instant(event.timestamp_us)).collect();
    let ids: Vec<_> = found.iter().map(|event| event.event_id).collect();
    let rows = transaction.query(CANCELLED, &[&project.0, &timestamps, &ids]).await?;
    let cancelled: HashSet<(i64, Uuid, i64)> =
        rows.iter().map(|row| (row.get::<_, Instant>(0).0, row.get(1), row.get::<_, Instant>(2).0)).collect();
    for event in found {
        event.is_cancelled = cancelled.contains(&(event.timestamp_us, event.event_id, event.received_us));
    }
    Ok(())
}

async fn mark_anonymized(
    transaction: &Client,
    project: ProjectId,
    found: &mut [FoundEvent],
) -> Result<(), Error> {
    let subjects: Vec<_> = found.iter().filter_map(|event| event.subject.clone()).collect();
    let rows = transaction.query(PSEUDONYMS, &[&project.0, &subjects]).await?;
    let pseudonyms: HashMap<String, Instant> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for event in found {
        let before = event.subject.as_ref().and_then(|subject| pseudonyms.get(subject));
        event.is_anonymized = before.is_some_and(|before| event.received_us < before.0);
    }
    Ok(())
}
