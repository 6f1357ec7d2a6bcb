//! Lists and changes projects, keys and plans for operators. The request path must never call it.

use std::time::Duration;

use deadpool_postgres::Client;
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::accounts::{self, PolicyRow};
use super::copy::Instant;
use super::usage::count;
use crate::admin::{OldKey, no_such_key};
use crate::columns::{PLAN_COLUMNS, POLICY_COLUMNS};
use crate::creation::{UnsavedKey, no_such_plan, no_such_project};
use crate::{
    KeyInfo, KeyOptions, KeyRotation, PlanChange, PlanUpdate, PolicyChange, PolicyUpdate, ProjectInfo,
    ProjectUsage, StoreError, UsageRow,
};
use millrace_event::plan::ProjectId;

pub(super) async fn projects(client: &Client) -> Result<Vec<ProjectInfo>, StoreError> {
    select_projects(client, "", &[]).await
}

pub(super) async fn project(client: &Client, name: &str) -> Result<Option<ProjectInfo>, StoreError> {
    Ok(select_projects(client, "WHERE p.name = $1", &[&name]).await?.pop())
}

pub(super) async fn projects_after(
    client: &Client,
    name: &str,
    limit: u32,
) -> Result<Vec<ProjectInfo>, StoreError> {
    // Only the projects of the page, before their keys are counted.
    let page =
        "WHERE p.project_id IN (SELECT project_id FROM projects WHERE name > $1 ORDER BY name LIMIT $2)";
    select_projects(client, page, &[&name, &i64::from(limit)]).await
}

async fn select_projects(
    client: &Client,
    condition: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<ProjectInfo>, StoreError> {
    let select = format!(
        "SELECT p.project_id, p.name, p.plan, {POLICY_COLUMNS}, p.created_at, max(k.last_used_at) AS last_used_at,
               count(k.key_id) FILTER (WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()))
                   AS live_keys
          FROM projects p LEFT JOIN api_keys k USING (project_id) {condition} GROUP BY p.project_id ORDER BY p.name"
    );
    let project = |row: &Row| ProjectInfo {
        project: ProjectId(row.get("project_id")),
        name: row.get("name"),
        plan: row.get("plan"),
        policy: accounts::policy(row),
        live_keys: row.get::<_, i64>("live_keys").unsigned_abs(),
        created_at: moment(row, "created_at"),
        last_used_at: optional_time(row, "last_used_at"),
    };
    Ok(client.query(&select, values).await?.iter().map(project).collect())
}

pub(super) async fn keys(client: &Client, project: Option<ProjectId>) -> Result<Vec<KeyInfo>, StoreError> {
    let keys = "
        SELECT k.key_id, p.name AS project, k.signing_secrets <> '{}' AS signed, k.scope,
               k.allowed_origins, k.created_at, k.last_used_at,
               k.expires_at, k.revoked_at
          FROM api_keys k JOIN projects p USING (project_id)
         WHERE $1::bigint IS NULL OR project_id = $1 ORDER BY k.key_id";
    let key = |row: &Row| KeyInfo {
        key_id: row.get("key_id"),
        project: row.get("project"),
        signed: row.get("signed"),
        scope: accounts::named(row, "scope"),
        allowed_origins: row.get("allowed_origins"),
        created_at: moment(row, "created_at"),
        last_used_at: optional_time(row, "last_used_at"),
        expires_at: optional_time(row, "expires_at"),
        revoked_at: optional_time(row, "revoked_at"),
    };
    Ok(client.query(keys, &[&project.map(|project| project.0)]).await?.iter().map(key).collect())
}

fn moment(row: &Row, column: &str) -> OffsetDateTime {
    row.get::<_, Instant>(column).into()
}

fn optional_time(row: &Row, column: &str) -> Option<OffsetDateTime> {
    row.get::<_, Option<Instant>>(column).map(OffsetDateTime::from)
}

pub(super) async fn rotate_key(
    client: &mut Client,
    key_id: i64,
    overlap: Duration,
    chosen_key: Option<&str>,
) -> Result<KeyRotation, StoreError> {
    let transaction = client.transaction().await?;
    let old = "
        SELECT k.project_id, p.name AS project, k.signing_secrets <> '{}' AS signed, k.scope, k.allowed_origins,
               k.expires_at,               k.revoked_at IS NOT NULL AS is_revoked, coalesce(k.expires_at <= now(), false) AS is_expired
          FROM api_keys k JOIN projects p USING (project_id) WHERE k.key_id = $1 FOR UPDATE OF k";
    let old = transaction.query_opt(old, &[&key_id]).await?.ok_or_else(|| no_such_key(key_id))?;
    let old_key = OldKey {
        is_revoked: old.get("is_revoked"),
        expires_at: optional_time(&old, "expires_at"),
        is_expired: old.get("is_expired"),
    };
    old_key.check_rotation(key_id)?;
    let new_key = UnsavedKey::new(&KeyOptions {
        chosen: chosen_key.map(str::to_owned),
        signed: old.get("signed"),
        scope: accounts::named(&old, "scope"),
        allowed_origins: old.get("allowed_origins"),
    })?;
    let new = accounts::store_key(new_key, &transaction, old.get("project_id")).await?;
    let expire = "UPDATE api_keys SET expires_at = now() + $2 * interval '1 microsecond' WHERE key_id = $1
                  RETURNING expires_at";
    let overlap_us = overlap.as_micros() as f64;
    let expired = transaction.query_one(expire, &[&key_id, &overlap_us]).await?;
    transaction.commit().await?;
    Ok(KeyRotation { project: old.get("project"), new, old_expires_at: moment(&expired, "expires_at") })
}

pub(super) async fn move_project(client: &Client, project: ProjectId, plan: &str) -> Result<(), StoreError> {
    let update = "UPDATE projects SET plan = $2 WHERE project_id = $1";
    match client.execute(update, &[&project.0, &plan]).await {
        Ok(1) => Ok(()),
        Ok(_) => Err(no_such_project(&project.to_string())),
        Err(error) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => Err(no_such_plan(plan)),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn set_policy(
    client: &mut Client,
    project: ProjectId,
    change: &PolicyChange,
) -> Result<PolicyUpdate, StoreError> {
    let transaction = client.transaction().await?;
    let old = format!("SELECT {POLICY_COLUMNS} FROM projects WHERE project_id = $1 FOR UPDATE");
    let old = transaction.query_opt(&old, &[&project.0]).await?;
    let before = old.as_ref().map(accounts::policy).ok_or_else(|| no_such_project(&project.to_string()))?;
    let after = change.apply(before)?;
    let update =
        format!("UPDATE projects SET ({POLICY_COLUMNS}) = ($2, $3, $4, $5, $6) WHERE project_id = $1");
    let PolicyRow { dedupe, oldest_s, newest_s, out_of_bounds, store_ip } = &PolicyRow::from(after);
    let values: [&(dyn ToSql + Sync); 6] = [&project.0, dedupe, oldest_s, newest_s, out_of_bounds, store_ip];
    transaction.execute(&update, &values).await?;
    transaction.commit().await?;
    Ok(PolicyUpdate { before, after })
}

pub(super) async fn set_plan(
    client: &mut Client,
    name: &str,
    change: &PlanChange,
) -> Result<PlanUpdate, StoreError> {
    let transaction = client.transaction().await?;
    let old = format!("SELECT name, {PLAN_COLUMNS} FROM plans WHERE name = $1 FOR UPDATE");
    let before = transaction.query_opt(&old, &[&name]).await?.as_ref().map(accounts::plan);
    let after = change.apply(name, before.clone())?;
    let upsert = format!(
        "INSERT INTO plans (name, {PLAN_COLUMNS}) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO UPDATE
            SET requests_per_minute = excluded.requests_per_minute, burst = excluded.burst,
                events_per_month = excluded.events_per_month, events_per_batch = excluded.events_per_batch"
    );
    let requests_per_minute = after.requests_per_minute.cast_signed();
    let (burst, events_per_batch) = (after.burst.cast_signed(), after.events_per_batch.cast_signed());
    let events_per_month = after.events_per_month.map(u64::cast_signed);
    transaction
        .execute(&upsert, &[&name, &requests_per_minute, &burst, &events_per_month, &events_per_batch])
        .await?;
    transaction.commit().await?;
    Ok(PlanUpdate { before, after })
}

pub(super) async fn usage_of_all(
    client: &Client,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> Result<Vec<ProjectUsage>, StoreError> {
    let sums = "
        SELECT p.project_id, p.name, coalesce(sum(events - cancelled), 0)::bigint, coalesce(sum(bytes), 0)::bigint,
               coalesce(sum(duplicates), 0)::bigint, coalesce(sum(dead), 0)::bigint,
               coalesce(sum(conflicts), 0)::bigint, coalesce(sum(cancelled), 0)::bigint
          FROM projects p LEFT JOIN usage_hourly u
               ON u.project_id = p.project_id AND u.hour >= $1 AND u.hour < $2
         GROUP BY p.project_id ORDER BY p.name";
    let usage = |row: &Row| ProjectUsage {
        project: ProjectId(row.get(0)),
        name: row.get(1),
        usage: UsageRow {
            start: from,
            events: count(row, 2),
            bytes: count(row, 3),
            duplicates: count(row, 4),
            dead: count(row, 5),
            conflicts: count(row, 6),
            cancelled: count(row, 7),
        },
    };
    let rows = client.query(sums, &[&Instant::from(from), &Instant::from(to)]).await?;
    Ok(rows.iter().map(usage).collect())
}
