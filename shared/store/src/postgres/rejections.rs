//! Adds and reads what was refused.

use deadpool_postgres::{Client, Transaction};
use time::OffsetDateTime;
use tokio_postgres::Row;

use super::accounts::named;
use super::copy::Instant;
use super::usage::count;
use crate::rejections::storable;
use crate::{
    RejectionCount, RejectionKind, RejectionReport, RejectionSample, RejectionSum, SAMPLES_KEPT, StoreError,
};
use millrace_event::plan::ProjectId;

/// The advisory lock of the process that adds a report ("refu"). It keeps the number of samples exact, and
/// two reports from waiting for each other.
const LOCK_ID: i64 = 0x7265_6675;

pub(super) async fn add(client: &mut Client, report: &RejectionReport) -> Result<(), StoreError> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK_ID]).await?;
    let note = "
        INSERT INTO rejection_sources AS s (source, report) VALUES ($1, $2)
        ON CONFLICT (source) DO UPDATE SET report = excluded.report, at = now() WHERE s.report < excluded.report";
    let number = i64::try_from(report.number).unwrap_or(i64::MAX);
    let is_new = transaction.execute(note, &[&report.source, &number]).await? == 1;
    if is_new {
        add_counts(&transaction, report).await?;
        add_samples(&transaction, report).await?;
    }
    Ok(transaction.commit().await?)
}

async fn add_counts(transaction: &Transaction<'_>, report: &RejectionReport) -> Result<(), StoreError> {
    let counts = report.ordered_counts();
    let projects: Vec<_> = counts.iter().map(|count| count.project.0).collect();
    let hours: Vec<_> = counts.iter().map(|count| Instant::from(count.hour)).collect();
    let kinds: Vec<_> = counts.iter().map(|count| count.kind.name()).collect();
    let codes: Vec<_> = counts.iter().map(|count| storable(&count.code)).collect();
    let numbers: Vec<_> = counts.iter().map(|count| i64::try_from(count.count).unwrap_or(i64::MAX)).collect();
    let add = "
        INSERT INTO rejections_hourly AS r (project_id, hour, kind, code, count)
        SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[])
        ON CONFLICT (project_id, hour, kind, code) DO UPDATE SET count = r.count + excluded.count";
    transaction.execute(add, &[&projects, &hours, &kinds, &codes, &numbers]).await?;
    Ok(())
}

async fn add_samples(transaction: &Transaction<'_>, report: &RejectionReport) -> Result<(), StoreError> {
    let add = "
        INSERT INTO rejection_samples (project_id, at, kind, code, field, message, payload)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let add = transaction.prepare_cached(add).await?;
    for sample in &report.samples {
        let (project, at, kind) = (sample.project.0, Instant::from(sample.at), sample.kind.name());
        let (code, message) = (storable(&sample.code), storable(&sample.message));
        let field = sample.field.as_deref().map(storable);
        transaction.execute(&add, &[&project, &at, &kind, &code, &field, &message, &sample.payload]).await?;
    }
    // A worker may delete samples of its own kinds at the same time. Rows that it has locked are its own.
    let forget = "
        DELETE FROM rejection_samples WHERE sample_id IN (
            SELECT sample_id FROM rejection_samples
             WHERE project_id = $1 AND kind = $2 AND sample_id <= (
                   SELECT sample_id FROM rejection_samples WHERE project_id = $1 AND kind = $2
                    ORDER BY sample_id DESC OFFSET $3 LIMIT 1)
               FOR UPDATE SKIP LOCKED)";
    let forget = transaction.prepare_cached(forget).await?;
    for (project, kind) in report.sampled() {
        transaction.execute(&forget, &[&project.0, &kind.name(), &i64::from(SAMPLES_KEPT)]).await?;
    }
    Ok(())
}

pub(super) async fn counts(
    client: &Client,
    project: Option<ProjectId>,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> Result<Vec<RejectionCount>, StoreError> {
    let (from, to) = (Instant::from(from), Instant::from(to));
    let columns = "SELECT hour, project_id, kind, code, count FROM rejections_hourly";
    let rows = match project {
        Some(project) => {
            let of_one = format!("{columns} WHERE project_id = $1 AND hour >= $2 AND hour < $3");
            client.query(&client.prepare_cached(&of_one).await?, &[&project.0, &from, &to]).await?
        }
        None => {
            let of_all = format!("{columns} WHERE hour >= $1 AND hour < $2");
            client.query(&client.prepare_cached(&of_all).await?, &[&from, &to]).await?
        }
    };
    let mut counts: Vec<_> = rows
        .iter()
        .map(|row| RejectionCount {
            hour: row.get::<_, Instant>(0).into(),
            project: ProjectId(row.get(1)),
            kind: named(row, "kind"),
            code: row.get(3),
            count: count(row, 4),
        })
        .collect();
    // Not in the query: the collation of the database may order codes in another way.
    counts.sort_unstable();
    Ok(counts)
}

pub(super) async fn sums(
    client: &Client,
    from: OffsetDateTime,
    to: OffsetDateTime,
    limit: u32,
) -> Result<Vec<RejectionSum>, StoreError> {
    let sums = "
        SELECT project_id, kind, code, sum(count)::bigint AS count FROM rejections_hourly
         WHERE hour >= $1 AND hour < $2 GROUP BY project_id, kind, code
         ORDER BY count DESC, project_id, kind, code LIMIT $3";
    let statement = client.prepare_cached(sums).await?;
    let period = (Instant::from(from), Instant::from(to));
    let rows = client.query(&statement, &[&period.0, &period.1, &i64::from(limit)]).await?;
    let sum = |row: &Row| RejectionSum {
        project: ProjectId(row.get(0)),
        kind: named(row, "kind"),
        code: row.get(2),
        count: count(row, 3),
    };
    Ok(rows.iter().map(sum).collect())
}

pub(super) async fn samples(
    client: &Client,
    project: Option<ProjectId>,
    kinds: &[RejectionKind],
    limit: u32,
) -> Result<Vec<RejectionSample>, StoreError> {
    let samples = "
        SELECT project_id, at, kind, code, field, message, payload FROM rejection_samples
         WHERE ($1::bigint IS NULL OR project_id = $1) AND kind = ANY ($2)
         ORDER BY at DESC, sample_id DESC LIMIT $3";
    let project = project.map(|project| project.0);
    let kinds: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    // Not prepared: each query is planned with the conditions it has.
    let rows = client.query(samples, &[&project, &kinds, &i64::from(limit)]).await?;
    let sample = |row: &Row| RejectionSample {
        project: ProjectId(row.get(0)),
        at: row.get::<_, Instant>(1).into(),
        kind: named(row, "kind"),
        code: row.get(3),
        field: row.get(4),
        message: row.get(5),
        payload: row.get(6),
    };
    Ok(rows.iter().map(sample).collect())
}
