//! Reads and changes the definitions of thresholds, and the secrets that sign notifications.

use std::time::Duration;

use millrace_event::key;
use millrace_event::plan::ProjectId;
use rusqlite::{Connection, Error, OptionalExtension, Row, TransactionBehavior, params};

use super::super::clock::{moment, now_us};
use crate::meters::no_project;
use crate::thresholds::{GONE, StoredRule, check_aggregation, no_meter};
use crate::{
    StoreError, ThresholdDefinition, ThresholdInfo, ThresholdPeriod, ThresholdRule, ThresholdUpdate,
};

const THRESHOLDS: &str = "
    SELECT t.threshold_id, p.name, t.name, t.kind, t.percent, m.slug, t.subject, t.period, t.value, t.url,
           t.created_at
      FROM thresholds t JOIN projects p USING (project_id) LEFT JOIN meters m USING (meter_id)
     WHERE ?1 IS NULL OR t.project_id = ?1 ORDER BY p.name, t.name";
const METER: &str =
    "SELECT meter_id, aggregation FROM meters WHERE project_id = ?1 AND slug = ?2 AND deleted_at IS NULL";
const CREATE: &str = "
    INSERT INTO thresholds (project_id, name, kind, percent, meter_id, subject, period, value, url)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const GIVE_UP: &str = "
    UPDATE notifications SET state = 'dead', claim = NULL, error = ?2
     WHERE threshold_id = ?1 AND state = 'pending'";
const FIND_PROJECT: &str = "SELECT project_id FROM projects WHERE name = ?1";
const CREATE_SECRET: &str =
    "INSERT INTO webhook_secrets (project_id, secret) VALUES (?1, ?2) ON CONFLICT (project_id) DO NOTHING";
const ROTATE: &str = "
    INSERT INTO webhook_secrets AS s (project_id, secret) SELECT project_id, ?2 FROM projects WHERE name = ?1
    ON CONFLICT (project_id) DO UPDATE
       SET secret = excluded.secret, previous = s.secret, previous_until = ?3";

/// The columns of a row, before its texts are read.
type Columns = (i64, String, StoredRule, String, String, i64);

fn columns(row: &Row<'_>) -> Result<Columns, Error> {
    let rule = StoredRule {
        kind: row.get(3)?,
        percent: row.get(4)?,
        slug: row.get(5)?,
        subject: row.get(6)?,
        period: row.get(7)?,
        value: row.get(8)?,
    };
    Ok((row.get(0)?, row.get(1)?, rule, row.get(2)?, row.get(9)?, row.get(10)?))
}

/// The thresholds of a project, or of all projects.
pub(in super::super) fn thresholds(
    connection: &Connection,
    project: Option<ProjectId>,
) -> Result<Vec<ThresholdInfo>, StoreError> {
    let mut statement = connection.prepare_cached(THRESHOLDS)?;
    let rows = statement.query_map([project.map(|project| project.0)], columns)?;
    let info = |row: Result<Columns, Error>| {
        let (threshold_id, project_name, rule, name, url, created_us) = row?;
        let definition = ThresholdDefinition { name, rule: rule.read()?, url };
        Ok(ThresholdInfo { threshold_id, project_name, definition, created_at: moment(created_us) })
    };
    rows.map(info).collect()
}

pub(in super::super) fn set(
    connection: &mut Connection,
    project: &str,
    definition: &ThresholdDefinition,
) -> Result<ThresholdUpdate, StoreError> {
    definition.check()?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: Option<i64> = transaction.query_row(FIND_PROJECT, [project], |row| row.get(0)).optional()?;
    let Some(project_id) = found else {
        return Err(no_project(project));
    };
    let secret = key::random_secret();
    let created = transaction.execute(CREATE_SECRET, params![project_id, secret])?;
    let secret = (created == 1).then(|| key::show_secret(&secret));
    match of_name(&transaction, project_id, &definition.name)? {
        Some(before) if before.definition.rule == definition.rule => {
            let update = "UPDATE thresholds SET url = ?2 WHERE threshold_id = ?1";
            transaction.execute(update, params![before.threshold_id, definition.url])?;
        }
        before => {
            if let Some(before) = before {
                remove(&transaction, before.threshold_id)?;
            }
            create(&transaction, project, project_id, definition)?;
        }
    }
    let info = of_name(&transaction, project_id, &definition.name)?;
    transaction.commit()?;
    let gone = || StoreError::Unavailable("the threshold was deleted at once".to_owned());
    Ok(ThresholdUpdate { info: info.ok_or_else(gone)?, secret })
}

fn of_name(connection: &Connection, project: i64, name: &str) -> Result<Option<ThresholdInfo>, StoreError> {
    let all = thresholds(connection, Some(ProjectId(project)))?;
    Ok(all.into_iter().find(|info| info.definition.name == name))
}

fn create(
    transaction: &Connection,
    project: &str,
    project_id: i64,
    definition: &ThresholdDefinition,
) -> Result<(), StoreError> {
    let ThresholdDefinition { name, rule, url } = definition;
    let (mut percent, mut meter, mut of_subject, mut number) = (None, None, None, None);
    let mut per = ThresholdPeriod::Month;
    match rule {
        ThresholdRule::Quota { percent: share } => percent = Some(*share),
        ThresholdRule::Limit { percent: share, subject, period, .. } => {
            (percent, of_subject, per) = (Some(*share), subject.as_deref(), *period);
        }
        ThresholdRule::Meter { subject, period, value, .. } => {
            (number, of_subject, per) = (Some(value.to_string()), subject.as_deref(), *period);
        }
    }
    if let Some(slug) = rule.meter() {
        let columns = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
        let found = transaction.query_row(METER, params![project_id, slug], columns).optional()?;
        let (id, aggregation) = found.ok_or_else(|| no_meter(project, slug))?;
        check_aggregation(rule, slug, &aggregation)?;
        meter = Some(id);
    }
    let (kind, per) = (rule.kind(), <&str>::from(per));
    transaction
        .execute(CREATE, params![project_id, name, kind, percent, meter, of_subject, per, number, url])?;
    Ok(())
}

/// Deletes a threshold. Its notifications have no URL any more.
fn remove(transaction: &Connection, threshold: i64) -> Result<(), Error> {
    transaction.execute("DELETE FROM thresholds WHERE threshold_id = ?1", [threshold])?;
    transaction.execute("DELETE FROM threshold_values WHERE threshold_id = ?1", [threshold])?;
    transaction.execute(GIVE_UP, params![threshold, GONE])?;
    Ok(())
}

pub(in super::super) fn delete(
    connection: &mut Connection,
    project: &str,
    name: &str,
) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let all = thresholds(&transaction, None)?;
    let found = all.iter().find(|info| info.project_name == project && info.definition.name == name);
    let Some(found) = found else { return Ok(false) };
    remove(&transaction, found.threshold_id)?;
    transaction.commit()?;
    Ok(true)
}

/// Deletes the thresholds of a meter, in the transaction that deletes it.
pub(in super::super) fn delete_of_meter(
    transaction: &Connection,
    project: &str,
    slug: &str,
) -> Result<(), StoreError> {
    for info in thresholds(transaction, None)?.iter().filter(|info| info.project_name == project) {
        if info.definition.rule.meter() == Some(slug) {
            remove(transaction, info.threshold_id)?;
        }
    }
    Ok(())
}

/// Replaces the secret of a project.
pub(in super::super) fn rotate(
    connection: &Connection,
    project: &str,
    overlap: Duration,
) -> Result<String, StoreError> {
    let secret = key::random_secret();
    let overlap_us = i64::try_from(overlap.as_micros()).unwrap_or(i64::MAX);
    let until_us = now_us().saturating_add(overlap_us);
    match connection.execute(ROTATE, params![project, secret, until_us])? {
        0 => Err(no_project(project)),
        _ => Ok(key::show_secret(&secret)),
    }
}
