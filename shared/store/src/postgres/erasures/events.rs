//! Erases or anonymizes events.

use std::collections::BTreeMap;

use millrace_event::meter::MeterSet;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::super::copy::Instant;
use super::super::{cancellations, distribution, meters};
use super::index;
use super::orders::{self, Counted, subject};
use crate::cancellations::FoundEvent;
use crate::erasures::{CHANGED_MAX, MovedFigures, Renaming, WALKED_MAX};
use crate::{Erasure, ErasureKind, ErasurePlace, ErasureStep, StoreError};

/// Attempts at a transaction, when rows move to another partition meanwhile.
const ATTEMPTS_MAX: u32 = 10;
/// Who drops a partition of `events` waits, and so does this transaction until a partition is dropped.
const HOLD: &str = "SET LOCAL lock_timeout = '10min'; LOCK TABLE retiring IN SHARE MODE";
/// The events are searched by a key, also in a table that has few rows.
const SETTINGS: &str = "SET LOCAL enable_seqscan = off; SET LOCAL millrace.counts_meters = 'on'";
const VERSION: &str = "SELECT millrace_meters_version()";
/// The next events of the project in the order of the key: those of the subject, and the last one.
const WALK: &str = "
    WITH walked AS MATERIALIZED (
        SELECT timestamp, event_id, subject IS NOT DISTINCT FROM $4 AND received_at < $5 AS is_found FROM events
         WHERE project_id = $1 AND timestamp >= $2 AND (timestamp, event_id) > ($2, $3)
         ORDER BY timestamp, event_id LIMIT $6)
    SELECT timestamp, event_id, is_found, total
      FROM (SELECT w.*, row_number() OVER (ORDER BY timestamp, event_id) AS place, count(*) OVER () AS total
              FROM walked w) numbered
     WHERE is_found OR place = total ORDER BY timestamp, event_id";
/// With an index no order is needed: what is found is not found again.
const FIND: &str = "
    SELECT timestamp, event_id FROM EVENTS
     WHERE project_id = $1 AND subject = $2 AND received_at < $3 LIMIT $4";
const UNCLAIM: &str = "
    DELETE FROM undated_ids WHERE project_id = $1
       AND (event_id, timestamp) IN (SELECT * FROM unnest($2::uuid[], $3::timestamptz[]))";
const CANCELLATIONS: &str = "
     WHERE project_id = $1 AND (timestamp, event_id, received_at) IN
           (SELECT * FROM unnest($2::timestamptz[], $3::uuid[], $4::timestamptz[]))";
const RETIRE: &str = "
    INSERT INTO retired AS r (project_id, what, day, count)
    SELECT $1, 'events', date '1970-01-01' + k.day, k.count FROM unnest($2::int[], $3::bigint[]) k (day, count)
    ON CONFLICT (project_id, what, day) DO UPDATE SET count = r.count + excluded.count";
const COUNT: &str = "
    INSERT INTO meter_erased AS m (meter_id, events, faults)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
    ON CONFLICT (meter_id) DO UPDATE SET events = m.events + excluded.events, faults = m.faults + excluded.faults";

/// A row of the key of `events`.
type Key = (Instant, Uuid);

pub(super) async fn step(
    client: &mut deadpool_postgres::Client,
    erasure: &Erasure,
    after: Option<(i64, Uuid)>,
) -> Result<ErasureStep, StoreError> {
    let mut step = ErasureStep::default();
    if after.is_none() {
        step.events += erase_detached(client, erasure).await?;
    }
    let next = if index::exists(client).await? {
        let keys = find(client, erasure, "events").await?;
        step.events_read = keys.len() as u64;
        step.events += change_all(client, erasure, "events", &keys).await?;
        (!keys.is_empty()).then_some(after.unwrap_or((i64::MIN, Uuid::nil())))
    } else {
        let (keys, read, last) = walk(client, erasure, after).await?;
        step.events_read = read;
        step.events += change_all(client, erasure, "events", &keys).await?;
        last.filter(|_| read == WALKED_MAX.unsigned_abs())
    };
    step.next = Some(match next {
        Some(after) => ErasurePlace::Events { after: Some(after) },
        None => ErasurePlace::Figures { meter: 0, after_us: i64::MIN },
    });
    Ok(step)
}

/// Partitions that retention has detached and not dropped yet.
async fn erase_detached(
    client: &mut deadpool_postgres::Client,
    erasure: &Erasure,
) -> Result<u64, StoreError> {
    let mut changed = 0;
    for row in client.query("SELECT partition FROM retiring ORDER BY partition", &[]).await? {
        let partition: &str = row.get(0);
        loop {
            let keys = match find(client, erasure, partition).await {
                // It was dropped meanwhile.
                Err(StoreError::SchemaOutdated(_)) => break,
                found => found?,
            };
            if keys.is_empty() {
                break;
            }
            changed += change_all(client, erasure, partition, &keys).await?;
        }
    }
    Ok(changed)
}

async fn find(
    client: &mut deadpool_postgres::Client,
    erasure: &Erasure,
    table: &str,
) -> Result<Vec<Key>, StoreError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(SETTINGS).await?;
    let (before, limit) = (Instant::from(erasure.received_before), CHANGED_MAX as i64);
    let parameters: [&(dyn ToSql + Sync); 4] = [&erasure.project.0, &subject(erasure)?, &before, &limit];
    let rows = transaction.query(&FIND.replace("EVENTS", table), &parameters).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The subject's events among the next of the project, how many were read, and the last of them.
async fn walk(
    client: &mut deadpool_postgres::Client,
    erasure: &Erasure,
    after: Option<(i64, Uuid)>,
) -> Result<(Vec<Key>, u64, Option<(i64, Uuid)>), StoreError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(SETTINGS).await?;
    let (after_us, after_id) = after.unwrap_or((i64::MIN, Uuid::nil()));
    let before = Instant::from(erasure.received_before);
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&erasure.project.0, &Instant(after_us), &after_id, &subject(erasure)?, &before, &WALKED_MAX];
    let rows = transaction.query(WALK, &parameters).await?;
    let found = rows.iter().filter(|row| row.get(2)).map(|row| (row.get(0), row.get(1))).collect();
    let read = rows.last().map_or(0, |row| row.get::<_, i64>(3).unsigned_abs());
    let last = rows.last().map(|row| (row.get::<_, Instant>(0).0, row.get(1)));
    Ok((found, read, last))
}

async fn change_all(
    client: &mut deadpool_postgres::Client,
    erasure: &Erasure,
    table: &str,
    keys: &[Key],
) -> Result<u64, StoreError> {
    let mut changed = 0;
    for keys in keys.chunks(CHANGED_MAX) {
        changed += change(client, erasure, table, keys).await?;
    }
    Ok(changed)
}

async fn change(
    client: &mut deadpool_postgres::Client,
    erasure: &Erasure,
    table: &str,
    keys: &[Key],
) -> Result<u64, StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        let has_meters = !meters::meters(client, Some(erasure.project)).await?.is_empty();
        if has_meters {
            // Workers wait for what is left to move afterwards.
            meters::move_ahead(client).await?;
        }
        let transaction = client.transaction().await?;
        transaction.batch_execute(HOLD).await?;
        if has_meters {
            meters::lock_figures(&transaction).await?;
        } else {
            transaction.query_one(VERSION, &[]).await?;
        }
        let infos = meters::meters(transaction.client(), Some(erasure.project)).await?;
        if infos.is_empty() == has_meters {
            continue;
        }
        let set = MeterSet::new(infos.into_iter().map(|info| info.meter));
        if let Some(changed) = change_in(&transaction, erasure, table, keys, &set).await? {
            transaction.commit().await?;
            return Ok(changed);
        }
    }
    Err(StoreError::Unavailable(
        "events move to other partitions, or definitions of meters change, all the time".to_owned(),
    ))
}

/// `None` when rows have moved to another partition.
async fn change_in(
    transaction: &Transaction<'_>,
    erasure: &Erasure,
    table: &str,
    keys: &[Key],
    set: &MeterSet,
) -> Result<Option<u64>, StoreError> {
    transaction.batch_execute(SETTINGS).await?;
    let client = transaction.client();
    let numbered: Vec<_> = keys.iter().enumerate().map(|(place, key)| (place, key.0, key.1)).collect();
    let mut found = cancellations::find_keys(client, erasure.project, table, &numbered).await?;
    let before = Instant::from(erasure.received_before).0;
    found.retain(|event| event.subject == erasure.subject && event.received_us < before);
    if found.is_empty() {
        return Ok(Some(0));
    }
    cancellations::mark_cancelled(client, erasure.project, &mut found).await?;
    let figures = moved_figures(client, erasure, &found, set).await?;
    if change_rows(client, erasure, table, &found).await? != found.len() as u64 {
        return Ok(None);
    }
    let cancelled = forget(client, erasure, &found).await?;
    let count = (figures.counts.keys().copied().collect::<Vec<_>>(), figures.counts.values());
    let (events, faults): (Vec<i64>, Vec<i64>) = count.1.copied().unzip();
    client.execute(COUNT, &[&count.0, &events, &faults]).await?;
    for name in found.iter().map(|event| event.name.as_str()).collect::<std::collections::BTreeSet<_>>() {
        for meter in set.of(erasure.project, name) {
            meters::hand_over(client, meter, &figures).await?;
        }
    }
    let counted = Counted { events: found.len() as i64, cancelled, ..Counted::default() };
    orders::add(client, erasure, counted).await?;
    Ok(Some(found.len() as u64))
}

async fn moved_figures(
    client: &Client,
    erasure: &Erasure,
    found: &[FoundEvent],
    set: &MeterSet,
) -> Result<MovedFigures, StoreError> {
    if set.is_empty() {
        return Ok(MovedFigures::default());
    }
    let incomplete = meters::incomplete_days(client, found).await?;
    let is_incomplete =
        |meter, day| incomplete.contains(&(None, day)) || incomplete.contains(&(Some(meter), day));
    let renaming = Renaming { subject: subject(erasure)?, pseudonym: &erasure.pseudonym };
    Ok(MovedFigures::new(erasure.project, found, set, renaming, is_incomplete))
}

/// Deletes or changes the rows, and returns how many.
async fn change_rows(
    client: &Client,
    erasure: &Erasure,
    table: &str,
    found: &[FoundEvent],
) -> Result<u64, StoreError> {
    let of_keys = "e.project_id = $1 AND e.timestamp = k.timestamp AND e.event_id = k.event_id
                   AND e.timestamp BETWEEN $4 AND $5";
    let keys = "unnest($2::timestamptz[], $3::uuid[]) k (timestamp, event_id)";
    let properties = match erasure.kind {
        ErasureKind::AnonymizeWithoutProperties => ", properties = NULL",
        ErasureKind::Erase | ErasureKind::Anonymize => "",
    };
    let set = format!("subject = $PSEUDONYM, client_id = NULL, context = NULL{properties}");
    let pseudonym = erasure.kind.keeps_events().then_some(&erasure.pseudonym);
    if distribution::is_distributed(client).await? {
        // Citus does not plan a statement for several keys.
        let of_key = "project_id = $1 AND timestamp = $2 AND event_id = $3";
        let change = match pseudonym {
            Some(_) => format!("UPDATE {table} SET {} WHERE {of_key}", set.replace("$PSEUDONYM", "$4")),
            None => format!("DELETE FROM {table} WHERE {of_key}"),
        };
        let change = client.prepare(&change).await?;
        let mut changed = 0;
        for event in found {
            let timestamp = Instant(event.timestamp_us);
            let mut parameters: Vec<&(dyn ToSql + Sync)> =
                vec![&erasure.project.0, &timestamp, &event.event_id];
            parameters.extend(pseudonym.map(|pseudonym| pseudonym as &(dyn ToSql + Sync)));
            changed += client.execute(&change, &parameters).await?;
        }
        return Ok(changed);
    }
    let change = match pseudonym {
        Some(_) => {
            let set = set.replace("$PSEUDONYM", "$6");
            format!("UPDATE {table} e SET {set} FROM {keys} WHERE {of_keys}")
        }
        None => format!("DELETE FROM {table} e USING {keys} WHERE {of_keys}"),
    };
    let timestamps: Vec<_> = found.iter().map(|event| Instant(event.timestamp_us)).collect();
    let ids: Vec<_> = found.iter().map(|event| event.event_id).collect();
    let (first, last) = (timestamps.iter().min(), timestamps.iter().max());
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&erasure.project.0, &timestamps, &ids, &first, &last];
    parameters.extend(pseudonym.map(|pseudonym| pseudonym as &(dyn ToSql + Sync)));
    Ok(client.execute(&change, &parameters).await?)
}

/// Removes what else is stored of these events. Returns how many rows of `cancellations` it removed.
async fn forget(client: &Client, erasure: &Erasure, found: &[FoundEvent]) -> Result<i64, StoreError> {
    let project = erasure.project.0;
    let cancelled: Vec<_> = found.iter().filter(|event| event.is_cancelled).collect();
    let timestamps: Vec<_> = cancelled.iter().map(|event| Instant(event.timestamp_us)).collect();
    let ids: Vec<_> = cancelled.iter().map(|event| event.event_id).collect();
    let received: Vec<_> = cancelled.iter().map(|event| Instant(event.received_us)).collect();
    let parameters: [&(dyn ToSql + Sync); 4] = [&project, &timestamps, &ids, &received];
    if erasure.kind.keeps_events() {
        // The reason may name the person.
        let hide = format!("UPDATE cancellations SET reason = NULL {CANCELLATIONS} AND reason IS NOT NULL");
        client.execute(&hide, &parameters).await?;
        return Ok(0);
    }
    let removed = client.execute(&format!("DELETE FROM cancellations {CANCELLATIONS}"), &parameters).await?;
    let ids: Vec<_> = found.iter().map(|event| event.event_id).collect();
    let timestamps: Vec<_> = found.iter().map(|event| Instant(event.timestamp_us)).collect();
    client.execute(UNCLAIM, &[&project, &ids, &timestamps]).await?;
    let mut days: BTreeMap<i32, i64> = BTreeMap::new();
    for event in found {
        let day = event.received_us.div_euclid(86_400_000_000);
        *days.entry(i32::try_from(day).unwrap_or_default()).or_default() += 1;
    }
    let (days, counts): (Vec<i32>, Vec<i64>) = days.into_iter().unzip();
    client.execute(RETIRE, &[&project, &days, &counts]).await?;
    Ok(removed.cast_signed())
}
