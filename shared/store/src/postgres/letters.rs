//! Reads dead letters and past redrives for operators. Changes nothing.

use deadpool_postgres::Client;
use tokio_postgres::Row;

use super::copy::Instant;
use crate::letters::no_such_project;
use crate::{
    DeadLetter, LetterFilter, LetterPayload, RedriveOrder, RedriveRecord, RedriveResult, StoreError,
};
use millrace_event::plan::ProjectId;

const LETTERS: &str = "
    SELECT d.dead_letter_id, d.project_id, p.name, d.batch_id, d.received_at, d.event_index, d.event_count, d.sqlstate,
           d.reason, octet_length(d.payload)::bigint, d.worker_version, d.created_at, d.attempted_at, d.redriven_at,
           d.redrive_id, d.code
      FROM dead_letters d LEFT JOIN projects p USING (project_id)
     WHERE ($1::bigint IS NULL OR d.project_id = $1)
       AND ($2::timestamptz IS NULL OR d.created_at >= $2)
       AND ($3::timestamptz IS NULL OR d.created_at < $3)
       AND ($4::text IS NULL OR d.sqlstate = $4)
       AND ($5::text IS NULL OR strpos(lower(d.reason), lower($5)) > 0)
       AND (cardinality($6::bigint[]) = 0 OR d.dead_letter_id = ANY ($6))
       AND ($7::boolean OR d.redriven_at IS NULL)
       AND ($8::bigint IS NULL OR d.dead_letter_id < $8)
       AND ($9::text IS NULL OR d.code = $9)
     ORDER BY d.dead_letter_id DESC LIMIT $10";

const REDRIVES: &str = "
    SELECT redrive_id, os_user, host, filter, started_at, letters, stored, duplicate, refused
      FROM redrives ORDER BY started_at DESC, redrive_id DESC LIMIT $1";

pub(super) async fn letters(
    client: &Client,
    filter: &LetterFilter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let project = match &filter.project {
        Some(name) => Some(project_named(client, name).await?),
        None => None,
    };
    let (since, until) = (filter.since.map(Instant::from), filter.until.map(Instant::from));
    // Not prepared: each query is planned with the conditions it has.
    let rows = client
        .query(
            LETTERS,
            &[
                &project,
                &since,
                &until,
                &filter.sqlstate,
                &filter.reason,
                &filter.ids,
                &filter.also_redriven,
                &before,
                &filter.code,
                &i64::from(limit),
            ],
        )
        .await?;
    Ok(rows.iter().map(letter).collect())
}

async fn project_named(client: &Client, name: &str) -> Result<i64, StoreError> {
    let row = client.query_opt("SELECT project_id FROM projects WHERE name = $1", &[&name]).await?;
    row.map(|row| row.get(0)).ok_or_else(|| no_such_project(name))
}

fn letter(row: &Row) -> DeadLetter {
    let moment = |column| row.get::<_, Option<Instant>>(column).map(Into::into);
    DeadLetter {
        id: row.get(0),
        project: ProjectId(row.get(1)),
        project_name: row.get(2),
        batch_id: row.get(3),
        received_at: row.get::<_, Instant>(4).into(),
        event_index: row.get::<_, Option<i32>>(5).map(i32::cast_unsigned),
        event_count: row.get::<_, i64>(6).unsigned_abs(),
        sqlstate: row.get(7),
        reason: row.get(8),
        payload_bytes: row.get::<_, i64>(9).unsigned_abs(),
        worker_version: row.get(10),
        created_at: row.get::<_, Instant>(11).into(),
        attempted_at: moment(12),
        redriven_at: moment(13),
        redrive_id: row.get(14),
        code: row.get(15),
    }
}

/// In the order of the letters' ids.
pub(super) async fn payloads(client: &Client, ids: &[i64]) -> Result<Vec<LetterPayload>, StoreError> {
    let payloads =
        "SELECT dead_letter_id, payload FROM dead_letters WHERE dead_letter_id = ANY ($1) ORDER BY 1";
    let rows = client.query(payloads, &[&ids]).await?;
    Ok(rows.iter().map(|row| LetterPayload { id: row.get(0), payload: row.get(1) }).collect())
}

/// The latest redrives, newest first.
pub(super) async fn redrives(client: &Client, limit: u32) -> Result<Vec<RedriveRecord>, StoreError> {
    let rows = client.query(REDRIVES, &[&i64::from(limit)]).await?;
    let record = |row: &Row| {
        let count = |column| row.get::<_, i64>(column).unsigned_abs();
        RedriveRecord {
            order: RedriveOrder { id: row.get(0), os_user: row.get(1), host: row.get(2), filter: row.get(3) },
            started_at: row.get::<_, Instant>(4).into(),
            redriven: RedriveResult {
                letters: count(5),
                stored: count(6),
                duplicate: count(7),
                refused: count(8),
            },
        }
    };
    Ok(rows.iter().map(record).collect())
}
