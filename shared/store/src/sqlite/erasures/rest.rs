//! Erases what is stored of a subject besides events and letters, and ends an erasure.

use rusqlite::{Connection, params};

use super::super::clock::micros;
use super::super::meters;
use super::orders::{self, Counted, subject};
use crate::erasures::is_in_sample;
use crate::{Erasure, ErasureKind, ErasureStep, StoreError};

/// Statements of a project (?1), a subject (?2) and its pseudonym (?3). What happened keeps its record, under
/// the pseudonym; what only applied to the subject is removed.
const STATEMENTS: [&str; 8] = [
    "DELETE FROM customer_limits WHERE project_id = ?1 AND subject = ?2 AND ?3 IS NOT NULL",
    "DELETE FROM limit_usage WHERE project_id = ?1 AND subject = ?2 AND ?3 IS NOT NULL",
    "DELETE FROM threshold_values WHERE subject = ?2 AND ?3 IS NOT NULL
        AND threshold_id NOT IN (SELECT threshold_id FROM thresholds WHERE project_id <> ?1)",
    "DELETE FROM thresholds WHERE project_id = ?1 AND subject = ?2 AND ?3 IS NOT NULL",
    "DELETE FROM notifications AS n WHERE n.project_id = ?1 AND n.subject = ?2
        AND EXISTS (SELECT 1 FROM notifications o WHERE o.threshold_id = n.threshold_id AND o.subject = ?3
                       AND o.period_start = n.period_start)",
    "UPDATE notifications SET subject = ?3 WHERE project_id = ?1 AND subject = ?2",
    "DELETE FROM meter_usage WHERE subject IN (?2, ?3)
        AND meter_id IN (SELECT meter_id FROM meters WHERE project_id = ?1 AND deleted_at IS NOT NULL)",
    "DELETE FROM meter_uniques WHERE subject IN (?2, ?3)
        AND meter_id IN (SELECT meter_id FROM meters WHERE project_id = ?1 AND deleted_at IS NOT NULL)",
];
/// Samples of faults have properties and no subject. They come again with the next fault.
const FAULT_SAMPLES: &str = "
    UPDATE meter_faults SET sample = x''
     WHERE meter_id IN (SELECT meter_id FROM meters WHERE project_id = ?1) AND sample <> x''";
const SAMPLES: &str = "SELECT sample_id, payload, message FROM rejection_samples WHERE project_id = ?1";
/// What settled batches gave back is needed no more.
const REFUNDS: &str = "DELETE FROM limit_refunds WHERE received_at < ?1 AND instr(refunds, ?2) > 0";

pub(super) fn step(transaction: &Connection, erasure: &Erasure) -> Result<ErasureStep, StoreError> {
    let (project, subject) = (erasure.project.0, subject(erasure)?);
    for statement in STATEMENTS {
        transaction.execute(statement, params![project, subject, erasure.pseudonym])?;
    }
    transaction.execute(FAULT_SAMPLES, [project])?;
    let mut samples = Vec::new();
    {
        let mut statement = transaction.prepare_cached(SAMPLES)?;
        let mut rows = statement.query([project])?;
        while let Some(row) = rows.next()? {
            let payload: Option<Vec<u8>> = row.get(1)?;
            let message: String = row.get(2)?;
            if is_in_sample(subject, payload.as_deref(), &message) {
                samples.push(row.get::<_, i64>(0)?);
            }
        }
    }
    for sample in &samples {
        transaction.execute("DELETE FROM rejection_samples WHERE sample_id = ?1", [sample])?;
    }
    let samples = samples.len() as u64;
    orders::add(transaction, erasure, Counted { samples, ..Counted::default() })?;
    Ok(ErasureStep { samples, ..ErasureStep::default() })
}

pub(super) fn finish(transaction: &Connection, erasure: &Erasure) -> Result<Erasure, StoreError> {
    let bytes = subject(erasure)?.as_bytes();
    transaction.execute(REFUNDS, params![micros(erasure.received_before), bytes])?;
    if erasure.kind != ErasureKind::Anonymize {
        for info in meters::meters(transaction, Some(erasure.project))? {
            meters::hide_values(transaction, &info.meter, &erasure.pseudonym)?;
        }
    }
    orders::finish(transaction, erasure)
}
