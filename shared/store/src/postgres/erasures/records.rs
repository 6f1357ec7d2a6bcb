//! Reads what is stored of a subject. Changes nothing.

use millrace_event::plan::ProjectId;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::super::cancellations::{COLUMNS, found_event, mark_cancelled};
use super::super::copy::Instant;
use super::super::meters;
use super::super::store::PostgresStore;
use super::index;
use crate::erasures::{self, LETTERS_MAX, LetterErasure, LetterRead, WALKED_MAX, erase_from_letter};
use crate::{RecordsPlace, RejectionKind, Rejections, StoreError, SubjectRecords};

const SETTINGS: &str = "SET LOCAL enable_seqscan = off";
/// The next events of the project in the order of the key: those of the subject, and the last one.
const WALK: &str = "
    WITH walked AS MATERIALIZED (
        SELECT timestamp, event_id, subject IS NOT DISTINCT FROM $4 AS is_found FROM events
         WHERE project_id = $1 AND timestamp >= $2 AND (timestamp, event_id) > ($2, $3)
         ORDER BY timestamp, event_id LIMIT $5)
    SELECT timestamp, event_id, is_found, total
      FROM (SELECT w.*, row_number() OVER (ORDER BY timestamp, event_id) AS place, count(*) OVER () AS total
              FROM walked w) numbered
     WHERE is_found OR place = total ORDER BY timestamp, event_id";
const LETTERS: &str = "
    SELECT dead_letter_id, project_id, event_index, event_count, code, payload, received_at, reason FROM dead_letters
     WHERE dead_letter_id > $1 AND project_id = $2 ORDER BY dead_letter_id LIMIT $3";
const REST: [&str; 4] = [
    "SELECT json_build_object('record', 'limit', 'meter', m.slug, 'period', l.period, 'amount', l.amount::text)::text
       FROM customer_limits l JOIN meters m USING (meter_id) WHERE l.project_id = $1 AND l.subject = $2",
    "SELECT json_build_object('record', 'limit_usage', 'meter', m.slug, 'period', u.period, 'ends_at', u.ends_at,
                              'used', u.used::text)::text
       FROM limit_usage u JOIN meters m USING (meter_id) WHERE u.project_id = $1 AND u.subject = $2",
    "SELECT json_build_object('record', 'threshold', 'name', name, 'period', period, 'value', value::text)::text
       FROM thresholds WHERE project_id = $1 AND subject = $2",
    "SELECT json_build_object('record', 'notification', 'name', name, 'meter', meter, 'period_start', period_start,
                              'period_end', period_end, 'threshold', threshold::text, 'value', value::text,
                              'created_at', created_at, 'state', state)::text
       FROM notifications WHERE project_id = $1 AND subject = $2",
];
/// Figures of one page, at most.
const FIGURES_MAX: i64 = 5_000;

/// A page of events, letters or figures.
pub(super) async fn page(
    client: &mut deadpool_postgres::Client,
    project: ProjectId,
    subject: &str,
    place: &RecordsPlace,
) -> Result<SubjectRecords, StoreError> {
    match place {
        RecordsPlace::Events { after } => events(client, project, subject, *after).await,
        RecordsPlace::Letters { after } => letters(client, project, subject, *after).await,
        RecordsPlace::Figures { meter, after_us } => {
            figures(client, project, subject, (*meter, *after_us)).await
        }
        RecordsPlace::Rest => Ok(SubjectRecords::default()),
    }
}

async fn events(
    client: &mut deadpool_postgres::Client,
    project: ProjectId,
    subject: &str,
    after: Option<(i64, Uuid)>,
) -> Result<SubjectRecords, StoreError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(SETTINGS).await?;
    let (after_us, after_id) = after.unwrap_or((i64::MIN, Uuid::nil()));
    let has_index = index::exists(transaction.client()).await?;
    let limit = if has_index { 1_000 } else { WALKED_MAX };
    let after_at = Instant(after_us);
    let parameters: [&(dyn ToSql + Sync); 5] = [&project.0, &after_at, &after_id, &subject, &limit];
    let (rows, last) = if has_index {
        let find = format!(
            "SELECT 0, {COLUMNS} FROM events e
              WHERE project_id = $1 AND timestamp >= $2 AND (timestamp, event_id) > ($2, $3) AND subject = $4
              ORDER BY timestamp, event_id LIMIT $5"
        );
        let rows = transaction.query(&find, &parameters).await?;
        let last = rows.last().filter(|_| rows.len() as i64 == limit);
        let last = last.map(|row| (row.get::<_, Instant>(1).0, row.get(2)));
        (rows, last)
    } else {
        let keys = transaction.query(WALK, &parameters).await?;
        let read = keys.last().map_or(0, |row| row.get::<_, i64>(3));
        let last = keys.last().filter(|_| read == limit);
        let last = last.map(|row| (row.get::<_, Instant>(0).0, row.get(1)));
        (events_of(&transaction, project, subject, &keys).await?, last)
    };
    let mut found: Vec<_> = rows.iter().map(found_event).collect();
    mark_cancelled(transaction.client(), project, &mut found).await?;
    let next = match last {
        Some(after) => RecordsPlace::Events { after: Some(after) },
        None => RecordsPlace::Letters { after: i64::MIN },
    };
    Ok(SubjectRecords { records: found.iter().map(erasures::event).collect(), next: Some(next) })
}

/// The events of the keys that a walk has found.
async fn events_of(
    transaction: &deadpool_postgres::Transaction<'_>,
    project: ProjectId,
    subject: &str,
    keys: &[Row],
) -> Result<Vec<Row>, StoreError> {
    let found: Vec<&Row> = keys.iter().filter(|row| row.get(2)).collect();
    let timestamps: Vec<Instant> = found.iter().map(|row| row.get(0)).collect();
    let ids: Vec<Uuid> = found.iter().map(|row| row.get(1)).collect();
    let (first, last) = (timestamps.first(), timestamps.last());
    let select = format!(
        "SELECT 0, {COLUMNS} FROM events e
          WHERE e.project_id = $1 AND e.timestamp BETWEEN $2 AND $3 AND e.timestamp = ANY ($4) AND e.event_id = ANY ($5)
            AND e.subject = $6
          ORDER BY e.timestamp, e.event_id"
    );
    let parameters: [&(dyn ToSql + Sync); 6] = [&project.0, &first, &last, &timestamps, &ids, &subject];
    Ok(transaction.query(&select, &parameters).await?)
}

async fn letters(
    client: &deadpool_postgres::Client,
    project: ProjectId,
    subject: &str,
    after: i64,
) -> Result<SubjectRecords, StoreError> {
    let rows = client.query(LETTERS, &[&after, &project.0, &LETTERS_MAX]).await?;
    let mut page = SubjectRecords::default();
    for row in &rows {
        let letter = LetterRead {
            id: row.get(0),
            project: ProjectId(row.get(1)),
            event_index: row.get::<_, Option<i32>>(2).map(i32::cast_unsigned),
            event_count: row.get::<_, i64>(3).unsigned_abs(),
            code: row.get(4),
            payload: row.get(5),
        };
        match erase_from_letter(&letter, subject) {
            LetterErasure::Kept | LetterErasure::Unreadable => {}
            LetterErasure::Deleted | LetterErasure::Rewritten { .. } => {
                let received_us = row.get::<_, Instant>(6).0;
                page.records.push(erasures::dead_letter(&letter, received_us, row.get(7), subject));
            }
        }
    }
    page.next = Some(match rows.last().filter(|_| rows.len() as i64 == LETTERS_MAX) {
        Some(last) => RecordsPlace::Letters { after: last.get(0) },
        None => RecordsPlace::Figures { meter: 0, after_us: i64::MIN },
    });
    Ok(page)
}

/// Figures of whole quarters.
async fn figures(
    client: &deadpool_postgres::Client,
    project: ProjectId,
    subject: &str,
    (from, after_us): (i64, i64),
) -> Result<SubjectRecords, StoreError> {
    let infos = meters::meters(client, Some(project)).await?;
    let next = infos.into_iter().filter(|info| info.meter.id.0 >= from).min_by_key(|info| info.meter.id.0);
    let Some(info) = next else {
        return Ok(SubjectRecords { records: Vec::new(), next: Some(RecordsPlace::Rest) });
    };
    let id = info.meter.id.0;
    let after_us = if id == from { after_us } else { i64::MIN };
    let select = format!(
        "SELECT bucket, groups, events::bigint, value::text, NULL::timestamptz, NULL::uuid, text
           FROM (SELECT f.*, dense_rank() OVER (ORDER BY bucket) AS quarter
                   FROM ({}) f WHERE subject = $1 AND bucket > $2) f
          WHERE quarter <= $3 ORDER BY bucket, groups, text",
        meters::figures(&info.meter)
    );
    let rows = client.query(&select, &[&subject, &Instant(after_us), &FIGURES_MAX]).await?;
    let rows: Vec<_> = rows.iter().map(meters::figure_row).collect();
    let slug = &info.meter.definition.slug;
    let next = match rows.last() {
        Some(last) => RecordsPlace::Figures { meter: id, after_us: last.bucket_us },
        None => RecordsPlace::Figures { meter: id + 1, after_us: i64::MIN },
    };
    let records = rows.iter().map(|figure| erasures::figure(slug, figure)).collect();
    Ok(SubjectRecords { records, next: Some(next) })
}

/// Limits, thresholds, notifications and samples, which are few.
pub(super) async fn rest(
    store: &PostgresStore,
    project: ProjectId,
    subject: &str,
) -> Result<SubjectRecords, StoreError> {
    let client = store.client().await?;
    let mut page = SubjectRecords::default();
    for select in REST {
        for row in client.query(select, &[&project.0, &subject]).await? {
            page.records.extend(serde_json::from_str(row.get(0)).ok());
        }
    }
    drop(client);
    let samples = store.rejection_samples(Some(project), RejectionKind::ALL, u32::MAX).await?;
    let found = samples
        .iter()
        .filter(|sample| erasures::is_in_sample(subject, sample.payload.as_deref(), &sample.message));
    page.records.extend(found.map(erasures::sample));
    Ok(page)
}
