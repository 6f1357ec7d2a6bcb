//! Erases what is stored of a subject besides events and letters, and ends an erasure.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::super::copy::Instant;
use super::super::meters;
use super::orders::{self, Counted, subject};
use crate::erasures::is_in_sample;
use crate::{Erasure, ErasureKind, ErasureStep, StoreError};

/// Statements of a project ($1), a subject ($2) and its pseudonym ($3). What happened keeps its record, under
/// the pseudonym; what only applied to the subject is removed.
const STATEMENTS: [&str; 9] = [
    "DELETE FROM customer_limits WHERE project_id = $1 AND subject = $2 AND $3::text IS NOT NULL",
    "DELETE FROM limit_usage WHERE project_id = $1 AND subject = $2 AND $3::text IS NOT NULL",
    "DELETE FROM threshold_values v WHERE subject = $2 AND $3::text IS NOT NULL
        AND NOT EXISTS (SELECT FROM thresholds t WHERE t.threshold_id = v.threshold_id AND t.project_id <> $1)",
    "DELETE FROM thresholds WHERE project_id = $1 AND subject = $2 AND $3::text IS NOT NULL",
    "DELETE FROM notifications n WHERE project_id = $1 AND subject = $2
        AND EXISTS (SELECT FROM notifications o WHERE o.threshold_id = n.threshold_id AND o.subject = $3
                       AND o.period_start = n.period_start)",
    "UPDATE notifications SET subject = $3 WHERE project_id = $1 AND subject = $2",
    "DELETE FROM meter_usage u USING meters m
      WHERE m.meter_id = u.meter_id AND m.project_id = $1 AND m.deleted_at IS NOT NULL AND u.subject IN ($2, $3)",
    "DELETE FROM meter_uniques u USING meters m
      WHERE m.meter_id = u.meter_id AND m.project_id = $1 AND m.deleted_at IS NOT NULL AND u.subject IN ($2, $3)",
    "DELETE FROM meter_additions a USING meters m
      WHERE m.meter_id = a.meter_id AND m.project_id = $1 AND m.deleted_at IS NOT NULL
        AND ($2::text = ANY (a.subjects) OR $3::text = ANY (a.subjects))",
];
/// Samples of faults have properties and no subject. They come again with the next fault.
const FAULT_SAMPLES: &str = "
    UPDATE meter_faults f SET sample = '' FROM meters m
     WHERE m.meter_id = f.meter_id AND m.project_id = $1 AND f.sample <> ''";
const SAMPLES: &str =
    "SELECT sample_id, payload, message FROM rejection_samples WHERE project_id = $1 FOR UPDATE";
const REMOVE_SAMPLES: &str = "DELETE FROM rejection_samples WHERE sample_id = ANY ($1)";
/// What settled batches gave back is needed no more.
const REFUNDS: &str =
    "DELETE FROM limit_refunds WHERE received_at < $1 AND position($2::bytea IN refunds) > 0";

pub(super) async fn step(
    client: &mut deadpool_postgres::Client,
    erasure: &Erasure,
) -> Result<ErasureStep, StoreError> {
    let transaction = client.transaction().await?;
    // Writers compare thresholds and add to faults, in an order of their own.
    meters::lock_figures(&transaction).await?;
    let (project, subject) = (erasure.project.0, subject(erasure)?);
    let parameters: [&(dyn ToSql + Sync); 3] = [&project, &subject, &erasure.pseudonym];
    for statement in STATEMENTS {
        transaction.execute(statement, &parameters).await?;
    }
    transaction.execute(FAULT_SAMPLES, &[&project]).await?;
    let rows = transaction.query(SAMPLES, &[&project]).await?;
    let is_of_subject =
        |row: &&tokio_postgres::Row| is_in_sample(subject, row.get::<_, Option<&[u8]>>(1), row.get(2));
    let samples: Vec<i64> = rows.iter().filter(is_of_subject).map(|row| row.get(0)).collect();
    transaction.execute(REMOVE_SAMPLES, &[&samples]).await?;
    let counted = Counted { samples: samples.len() as i64, ..Counted::default() };
    orders::add(transaction.client(), erasure, counted).await?;
    transaction.commit().await?;
    Ok(ErasureStep { samples: samples.len() as u64, ..ErasureStep::default() })
}

pub(super) async fn finish(
    client: &mut deadpool_postgres::Client,
    erasure: &Erasure,
) -> Result<Erasure, StoreError> {
    let transaction = client.transaction().await?;
    // Reads the values of all subjects, and no writer waits for it.
    meters::lock_moves(&transaction).await?;
    remove_refunds(transaction.client(), erasure).await?;
    if erasure.kind != ErasureKind::Anonymize {
        for info in meters::meters(transaction.client(), Some(erasure.project)).await? {
            meters::hide_values(transaction.client(), &info.meter, &erasure.pseudonym).await?;
        }
    }
    let finished = orders::finish(transaction.client(), erasure).await?;
    transaction.commit().await?;
    Ok(finished)
}

async fn remove_refunds(transaction: &Client, erasure: &Erasure) -> Result<(), StoreError> {
    let (before, bytes) = (Instant::from(erasure.received_before), subject(erasure)?.as_bytes());
    transaction.execute(REFUNDS, &[&before, &bytes]).await?;
    Ok(())
}
