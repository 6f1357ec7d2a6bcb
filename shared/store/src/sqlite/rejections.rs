//! Adds and reads what was refused.

use rusqlite::{Connection, Error, Row, Transaction, TransactionBehavior, params, params_from_iter};

use super::accounts::named;
use super::clock::{micros, moment, now_us};
use super::usage::count;
use crate::rejections::storable;
use crate::{
    RejectionCount, RejectionKind, RejectionReport, RejectionSample, RejectionSum, SAMPLES_KEPT, StoreError,
};
use millrace_event::plan::ProjectId;

pub(super) fn add(connection: &mut Connection, report: &RejectionReport) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let note = "
        INSERT INTO rejection_sources AS s (source, report, at) VALUES (?1, ?2, ?3)
        ON CONFLICT (source) DO UPDATE SET report = excluded.report, at = excluded.at
         WHERE s.report < excluded.report";
    let number = i64::try_from(report.number).unwrap_or(i64::MAX);
    let noted = transaction.execute(note, params![report.source.as_bytes(), number, now_us()])?;
    if noted == 1 {
        add_counts(&transaction, report)?;
        add_samples(&transaction, report)?;
    }
    Ok(transaction.commit()?)
}

fn add_counts(transaction: &Transaction<'_>, report: &RejectionReport) -> Result<(), Error> {
    let add = "
        INSERT INTO rejections_hourly AS r (project_id, hour, kind, code, count) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (project_id, hour, kind, code) DO UPDATE SET count = r.count + excluded.count";
    for RejectionCount { hour, project, kind, code, count } in report.ordered_counts() {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        let values = params![project.0, micros(*hour), kind.name(), storable(code), count];
        transaction.prepare_cached(add)?.execute(values)?;
    }
    Ok(())
}

fn add_samples(transaction: &Transaction<'_>, report: &RejectionReport) -> Result<(), Error> {
    let add = "
        INSERT INTO rejection_samples (project_id, at, kind, code, field, message, payload)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    for sample in &report.samples {
        transaction.prepare_cached(add)?.execute(params![
            sample.project.0,
            micros(sample.at),
            sample.kind.name(),
            storable(&sample.code),
            sample.field.as_deref().map(storable),
            storable(&sample.message),
            sample.payload,
        ])?;
    }
    let forget = "
        DELETE FROM rejection_samples WHERE sample_id IN (
            SELECT sample_id FROM rejection_samples WHERE project_id = ?1 AND kind = ?2
             ORDER BY sample_id DESC LIMIT -1 OFFSET ?3)";
    for (project, kind) in report.sampled() {
        transaction.prepare_cached(forget)?.execute(params![project.0, kind.name(), SAMPLES_KEPT])?;
    }
    Ok(())
}

pub(super) fn counts(
    connection: &Connection,
    project: Option<ProjectId>,
    (from_us, to_us): (i64, i64),
) -> Result<Vec<RejectionCount>, StoreError> {
    let columns = "SELECT hour, project_id, kind, code, count FROM rejections_hourly";
    let (sql, values) = match project {
        Some(project) => (
            format!("{columns} WHERE project_id = ?1 AND hour >= ?2 AND hour < ?3"),
            vec![project.0, from_us, to_us],
        ),
        None => (format!("{columns} WHERE hour >= ?1 AND hour < ?2"), vec![from_us, to_us]),
    };
    let row = |row: &Row<'_>| {
        Ok(RejectionCount {
            hour: moment(row.get(0)?),
            project: ProjectId(row.get(1)?),
            kind: named(row, "kind")?,
            code: row.get(3)?,
            count: count(row, 4)?,
        })
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let mut counts: Vec<_> = statement.query_map(params_from_iter(values), row)?.collect::<Result<_, _>>()?;
    counts.sort_unstable();
    Ok(counts)
}

pub(super) fn sums(
    connection: &Connection,
    (from_us, to_us): (i64, i64),
    limit: u32,
) -> Result<Vec<RejectionSum>, StoreError> {
    let sums = "
        SELECT project_id, kind, code, sum(count) AS total FROM rejections_hourly
         WHERE hour >= ?1 AND hour < ?2 GROUP BY project_id, kind, code
         ORDER BY total DESC, project_id, kind, code LIMIT ?3";
    let row = |row: &Row<'_>| {
        Ok(RejectionSum {
            project: ProjectId(row.get(0)?),
            kind: named(row, "kind")?,
            code: row.get(2)?,
            count: count(row, 3)?,
        })
    };
    let mut statement = connection.prepare_cached(sums)?;
    let rows = statement.query_map(params![from_us, to_us, limit], row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn samples(
    connection: &Connection,
    project: Option<ProjectId>,
    kinds: &[RejectionKind],
    limit: u32,
) -> Result<Vec<RejectionSample>, StoreError> {
    let kinds: Vec<_> = kinds.iter().map(|kind| format!("'{}'", kind.name())).collect();
    let condition = if project.is_some() { "project_id = ?1" } else { "?1 IS NULL" };
    let samples = format!(
        "SELECT project_id, at, kind, code, field, message, payload FROM rejection_samples
          WHERE {condition} AND kind IN ({}) ORDER BY at DESC, sample_id DESC LIMIT ?2",
        kinds.join(", ")
    );
    let row = |row: &Row<'_>| {
        Ok(RejectionSample {
            project: ProjectId(row.get(0)?),
            at: moment(row.get(1)?),
            kind: named(row, "kind")?,
            code: row.get(3)?,
            field: row.get(4)?,
            message: row.get(5)?,
            payload: row.get(6)?,
        })
    };
    let mut statement = connection.prepare_cached(&samples)?;
    let rows = statement.query_map(params![project.map(|project| project.0), limit], row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
