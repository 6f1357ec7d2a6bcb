//! Reads and changes the definitions of thresholds. A trigger makes a new version of what writers know.

use millrace_event::plan::ProjectId;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::super::copy::Instant;
use super::secrets;
use crate::meters::no_project;
use crate::thresholds::{GONE, StoredRule, check_aggregation, no_meter};
use crate::{
    StoreError, ThresholdDefinition, ThresholdInfo, ThresholdPeriod, ThresholdRule, ThresholdUpdate,
};

/// A change waits for all transactions that write events, and makes the next ones wait.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = '60s'";
const THRESHOLDS: &str = "
    SELECT t.threshold_id, p.name AS project, t.name, t.kind, t.percent, m.slug, t.subject, t.period,
           trim_scale(t.value)::text AS value, t.url, t.created_at
      FROM thresholds t JOIN projects p USING (project_id) LEFT JOIN meters m USING (meter_id)
     WHERE $1::bigint IS NULL OR t.project_id = $1 ORDER BY p.name, t.name";
const METER: &str =
    "SELECT meter_id, aggregation FROM meters WHERE project_id = $1 AND slug = $2 AND deleted_at IS NULL";
const CREATE: &str = "
    INSERT INTO thresholds (project_id, name, kind, percent, meter_id, subject, period, value, url)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::numeric, $9)";
const GIVE_UP: &str = "
    UPDATE notifications SET state = 'dead', claim = NULL, error = $2
     WHERE threshold_id = $1 AND state = 'pending'";

/// The thresholds of a project, or of all projects.
pub(in super::super) async fn thresholds(
    client: &Client,
    project: Option<ProjectId>,
) -> Result<Vec<ThresholdInfo>, StoreError> {
    let rows = client.query(THRESHOLDS, &[&project.map(|project| project.0)]).await?;
    rows.iter().map(info).collect()
}

fn info(row: &Row) -> Result<ThresholdInfo, StoreError> {
    let rule = StoredRule {
        kind: row.get("kind"),
        percent: row.get("percent"),
        slug: row.get("slug"),
        subject: row.get("subject"),
        period: row.get("period"),
        value: row.get("value"),
    };
    let definition = ThresholdDefinition { name: row.get("name"), rule: rule.read()?, url: row.get("url") };
    Ok(ThresholdInfo {
        threshold_id: row.get("threshold_id"),
        project_name: row.get("project"),
        definition,
        created_at: row.get::<_, Instant>("created_at").into(),
    })
}

pub(in super::super) async fn set(
    client: &mut deadpool_postgres::Client,
    project: &str,
    definition: &ThresholdDefinition,
) -> Result<ThresholdUpdate, StoreError> {
    definition.check()?;
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK_WAIT).await?;
    // The row is locked, so that two commands with one name take turns.
    let find = "SELECT project_id FROM projects WHERE name = $1 FOR NO KEY UPDATE";
    let Some(found) = transaction.query_opt(find, &[&project]).await? else {
        return Err(no_project(project));
    };
    let project_id: i64 = found.get(0);
    let secret = secrets::create(transaction.client(), project_id).await?;
    let before = of_name(transaction.client(), project_id, &definition.name).await?;
    match before {
        Some(before) if before.definition.rule == definition.rule => {
            let update = "UPDATE thresholds SET url = $2 WHERE threshold_id = $1";
            transaction.execute(update, &[&before.threshold_id, &definition.url]).await?;
        }
        before => {
            if let Some(before) = before {
                remove(transaction.client(), before.threshold_id).await?;
            }
            create(transaction.client(), project, project_id, definition).await?;
        }
    }
    let info = of_name(transaction.client(), project_id, &definition.name).await?;
    transaction.commit().await?;
    let gone = || StoreError::Unavailable("the threshold was deleted at once".to_owned());
    Ok(ThresholdUpdate { info: info.ok_or_else(gone)?, secret })
}

async fn of_name(client: &Client, project: i64, name: &str) -> Result<Option<ThresholdInfo>, StoreError> {
    let all = thresholds(client, Some(ProjectId(project))).await?;
    Ok(all.into_iter().find(|info| info.definition.name == name))
}

async fn create(
    client: &Client,
    project: &str,
    project_id: i64,
    definition: &ThresholdDefinition,
) -> Result<(), StoreError> {
    let ThresholdDefinition { name, rule, url } = definition;
    let (mut percent, mut meter, mut of_subject, mut number) = (None, None, None, None);
    let mut per = ThresholdPeriod::Month;
    match rule {
        ThresholdRule::Quota { percent: share } => percent = Some(i32::from(*share)),
        ThresholdRule::Limit { percent: share, subject, period, .. } => {
            (percent, of_subject, per) = (Some(i32::from(*share)), subject.as_deref(), *period);
        }
        ThresholdRule::Meter { subject, period, value, .. } => {
            (number, of_subject, per) = (Some(value.to_string()), subject.as_deref(), *period);
        }
    }
    if let Some(slug) = rule.meter() {
        let found = client.query_opt(METER, &[&project_id, &slug]).await?;
        let found = found.ok_or_else(|| no_meter(project, slug))?;
        check_aggregation(rule, slug, found.get(1))?;
        meter = Some(found.get::<_, i64>(0));
    }
    let (kind, per): (_, &str) = (rule.kind(), per.into());
    let values: [&(dyn ToSql + Sync); 9] =
        [&project_id, name, &kind, &percent, &meter, &of_subject, &per, &number, url];
    client.execute(CREATE, &values).await?;
    Ok(())
}

/// Deletes a threshold. Its notifications have no URL any more.
async fn remove(client: &Client, threshold: i64) -> Result<(), StoreError> {
    client.execute("DELETE FROM thresholds WHERE threshold_id = $1", &[&threshold]).await?;
    client.execute("DELETE FROM threshold_values WHERE threshold_id = $1", &[&threshold]).await?;
    client.execute(GIVE_UP, &[&threshold, &GONE]).await?;
    Ok(())
}

pub(in super::super) async fn delete(
    client: &mut deadpool_postgres::Client,
    project: &str,
    name: &str,
) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK_WAIT).await?;
    let all = thresholds(transaction.client(), None).await?;
    let found = all.iter().find(|info| info.project_name == project && info.definition.name == name);
    let Some(found) = found else { return Ok(false) };
    remove(transaction.client(), found.threshold_id).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Deletes the thresholds of a meter, in the transaction that deletes it.
pub(in super::super) async fn delete_of_meter(
    client: &Client,
    project: &str,
    slug: &str,
) -> Result<(), StoreError> {
    let find = "
        SELECT t.threshold_id FROM thresholds t JOIN meters m USING (meter_id) JOIN projects p ON p.project_id = m.project_id
         WHERE p.name = $1 AND m.slug = $2 AND m.deleted_at IS NULL";
    for row in client.query(find, &[&project, &slug]).await? {
        remove(client, row.get(0)).await?;
    }
    Ok(())
}
