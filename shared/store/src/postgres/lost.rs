//! How far the stream was written, and which acknowledged batches it lost.

use deadpool_postgres::Client;
use uuid::Uuid;

use super::copy::Instant;
use super::usage::count;
use crate::{LostHour, StoreError, StreamRecord};
use millrace_event::plan::ProjectId;
use millrace_event::{AcknowledgedBatch, BatchId, EntryId};

pub(super) async fn stream_record(client: &Client, shard: u16) -> Result<StreamRecord, StoreError> {
    let record = "
        SELECT e.epoch, p.entry_ms, p.entry_seq
          FROM (SELECT $1::int AS shard) s
          LEFT JOIN stream_epochs e USING (shard) LEFT JOIN stream_positions p USING (shard)";
    let statement = client.prepare_cached(record).await?;
    let row = client.query_one(&statement, &[&i32::from(shard)]).await?;
    let part = |column| row.get::<_, Option<i64>>(column).map_or(0, i64::cast_unsigned);
    Ok(StreamRecord { epoch: row.get(0), position: EntryId { ms: part(1), seq: part(2) } })
}

pub(super) async fn not_in_ledger(
    client: &Client,
    batches: &[AcknowledgedBatch],
) -> Result<Vec<AcknowledgedBatch>, StoreError> {
    // LATERAL with LIMIT: one lookup in the index for each batch, also when few of them are found.
    let absent = "
        SELECT k.batch_id
          FROM unnest($1::uuid[], $2::timestamptz[]) k (batch_id, received_at)
          LEFT JOIN LATERAL (SELECT true AS found FROM ledger b
                              WHERE b.row_id IN (k.batch_id, millrace_batch_group(k.batch_id))
                                AND b.batch_id = k.batch_id AND b.received_at >= k.received_at LIMIT 1) l ON true
         WHERE l.found IS NULL";
    let Parameters { ids, received, .. } = Parameters::new(batches);
    let rows = client.query(absent, &[&ids, &received]).await?;
    let absent: std::collections::HashSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    Ok(batches.iter().filter(|batch| absent.contains(&batch.batch_id)).copied().collect())
}

pub(super) async fn record(
    client: &Client,
    shard: u16,
    batches: &[AcknowledgedBatch],
) -> Result<Vec<BatchId>, StoreError> {
    let add = "
        INSERT INTO lost_batches (batch_id, project_id, events, received_at, shard)
        SELECT k.*, $5 FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[]) k
        ON CONFLICT DO NOTHING RETURNING batch_id";
    let Parameters { ids, projects, events, received } = Parameters::new(batches);
    let rows = client.query(add, &[&ids, &projects, &events, &received, &i32::from(shard)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

pub(super) async fn by_hour(client: &Client) -> Result<Vec<LostHour>, StoreError> {
    let hours = "
        SELECT l.project_id, date_trunc('hour', l.received_at, 'UTC') AS hour, count(*), sum(l.events)::bigint,
               l.reviewed_at IS NOT NULL AS reviewed
          FROM lost_batches l
          LEFT JOIN LATERAL (SELECT true AS found FROM ledger b
                              WHERE b.row_id IN (l.batch_id, millrace_batch_group(l.batch_id))
                                AND b.batch_id = l.batch_id AND b.received_at >= l.received_at LIMIT 1) s ON true
         WHERE s.found IS NULL
         GROUP BY l.project_id, hour, reviewed ORDER BY l.project_id, hour, reviewed";
    let rows = client.query(hours, &[]).await?;
    let hour = |row: &tokio_postgres::Row| LostHour {
        project: ProjectId(row.get(0)),
        hour: row.get::<_, Instant>(1).into(),
        batches: count(row, 2),
        events: count(row, 3),
        reviewed: row.get(4),
    };
    Ok(rows.iter().map(hour).collect())
}

pub(super) async fn review(client: &Client) -> Result<u64, StoreError> {
    let review = "UPDATE lost_batches SET reviewed_at = now() WHERE reviewed_at IS NULL";
    Ok(client.execute(review, &[]).await?)
}

/// One element for each batch.
#[derive(Default)]
struct Parameters {
    ids: Vec<Uuid>,
    projects: Vec<i64>,
    events: Vec<i64>,
    received: Vec<Instant>,
}

impl Parameters {
    fn new(batches: &[AcknowledgedBatch]) -> Self {
        let mut parameters = Self::default();
        for batch in batches {
            parameters.ids.push(batch.batch_id);
            parameters.projects.push(batch.project.0);
            parameters.events.push(batch.count.into());
            parameters.received.push(Instant(batch.id.ms.cast_signed().saturating_mul(1_000)));
        }
        parameters
    }
}
