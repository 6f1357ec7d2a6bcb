//! Lists and changes projects, keys and plans for operators. The request path must never call it.

use std::time::Duration;

use rusqlite::{Connection, Error, OptionalExtension, Row, ToSql, TransactionBehavior, params};
use time::OffsetDateTime;

use super::accounts;
use super::clock::{micros, moment, now_us};
use super::error::is_foreign_key_violation;
use super::usage::count;
use crate::admin::{OldKey, no_such_key};
use crate::columns::{PLAN_COLUMNS, POLICY_COLUMNS};
use crate::creation::{UnsavedKey, no_such_plan, no_such_project};
use crate::{
    KeyInfo, KeyOptions, KeyRotation, PlanChange, PlanUpdate, PolicyChange, PolicyUpdate, ProjectInfo,
    ProjectUsage, StoreError, UsageRow,
};
use millrace_event::plan::ProjectId;

pub(super) fn projects(connection: &Connection) -> Result<Vec<ProjectInfo>, StoreError> {
    select_projects(connection, "", params![now_us()])
}

pub(super) fn project(connection: &Connection, name: &str) -> Result<Option<ProjectInfo>, StoreError> {
    Ok(select_projects(connection, "WHERE p.name = ?2", params![now_us(), name])?.pop())
}

pub(super) fn projects_after(
    connection: &Connection,
    name: &str,
    limit: u32,
) -> Result<Vec<ProjectInfo>, StoreError> {
    // Only the projects of the page, before their keys are counted.
    let page =
        "WHERE p.project_id IN (SELECT project_id FROM projects WHERE name > ?2 ORDER BY name LIMIT ?3)";
    select_projects(connection, page, params![now_us(), name, limit])
}

/// `values` begins with the present time.
fn select_projects(
    connection: &Connection,
    condition: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<ProjectInfo>, StoreError> {
    let select = format!(
        "SELECT p.project_id, p.name, p.plan, {POLICY_COLUMNS}, p.created_at, max(k.last_used_at) AS last_used_at,
               count(k.key_id) FILTER (WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?1))
                   AS live_keys
          FROM projects p LEFT JOIN api_keys k ON k.project_id = p.project_id {condition}
         GROUP BY p.project_id ORDER BY p.name"
    );
    let project = |row: &Row<'_>| {
        Ok(ProjectInfo {
            project: ProjectId(row.get("project_id")?),
            name: row.get("name")?,
            plan: row.get("plan")?,
            policy: accounts::policy(row)?,
            live_keys: row.get("live_keys")?,
            created_at: moment(row.get("created_at")?),
            last_used_at: optional_time(row, "last_used_at")?,
        })
    };
    Ok(connection.prepare(&select)?.query_map(values, project)?.collect::<Result<_, _>>()?)
}

pub(super) fn keys(connection: &Connection, project: Option<ProjectId>) -> Result<Vec<KeyInfo>, StoreError> {
    let keys = "
        SELECT k.key_id, p.name AS project, k.signing_secrets <> x'' AS signed, k.scope, k.allowed_origins,
               k.created_at, k.last_used_at,
               k.expires_at, k.revoked_at
          FROM api_keys k JOIN projects p ON p.project_id = k.project_id
         WHERE ?1 IS NULL OR k.project_id = ?1 ORDER BY k.key_id";
    let key = |row: &Row<'_>| {
        Ok(KeyInfo {
            key_id: row.get("key_id")?,
            project: row.get("project")?,
            signed: row.get("signed")?,
            scope: accounts::named(row, "scope")?,
            allowed_origins: accounts::origins(row)?,
            created_at: moment(row.get("created_at")?),
            last_used_at: optional_time(row, "last_used_at")?,
            expires_at: optional_time(row, "expires_at")?,
            revoked_at: optional_time(row, "revoked_at")?,
        })
    };
    let project = project.map(|project| project.0);
    Ok(connection.prepare(keys)?.query_map([project], key)?.collect::<Result<_, _>>()?)
}

fn optional_time(row: &Row<'_>, column: &str) -> Result<Option<OffsetDateTime>, Error> {
    Ok(row.get::<_, Option<i64>>(column)?.map(moment))
}

pub(super) fn rotate_key(
    connection: &mut Connection,
    key_id: i64,
    overlap: Duration,
    chosen_key: Option<&str>,
) -> Result<KeyRotation, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now_us = now_us();
    let old = "
        SELECT k.project_id, p.name, k.signing_secrets <> x'', k.expires_at, k.revoked_at IS NOT NULL, k.scope,
               k.allowed_origins
          FROM api_keys k JOIN projects p ON p.project_id = k.project_id WHERE k.key_id = ?1";
    let read = |row: &Row<'_>| {
        let expires_us: Option<i64> = row.get(3)?;
        let old_key = OldKey {
            is_revoked: row.get(4)?,
            expires_at: expires_us.map(moment),
            is_expired: expires_us.is_some_and(|expires_us| expires_us <= now_us),
        };
        let options = KeyOptions {
            chosen: None,
            signed: row.get(2)?,
            scope: accounts::named(row, "scope")?,
            allowed_origins: accounts::origins(row)?,
        };
        Ok((row.get(0)?, row.get(1)?, options, old_key))
    };
    let old = transaction.query_row(old, [key_id], read).optional()?;
    let (project_id, project, options, old_key) = old.ok_or_else(|| no_such_key(key_id))?;
    old_key.check_rotation(key_id)?;
    let options = KeyOptions { chosen: chosen_key.map(str::to_owned), ..options };
    let new = accounts::store_key(UnsavedKey::new(&options)?, &transaction, project_id)?;
    let expires_us = now_us.saturating_add(i64::try_from(overlap.as_micros()).unwrap_or(i64::MAX));
    transaction.execute("UPDATE api_keys SET expires_at = ?2 WHERE key_id = ?1", [key_id, expires_us])?;
    transaction.commit()?;
    Ok(KeyRotation { project, new, old_expires_at: moment(expires_us) })
}

pub(super) fn move_project(
    connection: &Connection,
    project: ProjectId,
    plan: &str,
) -> Result<(), StoreError> {
    let update = "UPDATE projects SET plan = ?2 WHERE project_id = ?1";
    match connection.execute(update, params![project.0, plan]) {
        Ok(1) => Ok(()),
        Ok(_) => Err(no_such_project(&project.to_string())),
        Err(error) if is_foreign_key_violation(&error) => Err(no_such_plan(plan)),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn set_policy(
    connection: &mut Connection,
    project: ProjectId,
    change: &PolicyChange,
) -> Result<PolicyUpdate, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let old = format!("SELECT {POLICY_COLUMNS} FROM projects WHERE project_id = ?1");
    let before = transaction.query_row(&old, [project.0], accounts::policy).optional()?;
    let before = before.ok_or_else(|| no_such_project(&project.to_string()))?;
    let after = change.apply(before)?;
    let update =
        format!("UPDATE projects SET ({POLICY_COLUMNS}) = (?2, ?3, ?4, ?5, ?6) WHERE project_id = ?1");
    let (dedupe, oldest_s, newest_s, out_of_bounds, store_ip) = accounts::policy_row(after);
    transaction.execute(&update, params![project.0, dedupe, oldest_s, newest_s, out_of_bounds, store_ip])?;
    transaction.commit()?;
    Ok(PolicyUpdate { before, after })
}

pub(super) fn set_plan(
    connection: &mut Connection,
    name: &str,
    change: &PlanChange,
) -> Result<PlanUpdate, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let old = format!("SELECT name, {PLAN_COLUMNS} FROM plans WHERE name = ?1");
    let before = transaction.query_row(&old, [name], accounts::plan).optional()?;
    let after = change.apply(name, before.clone())?;
    let upsert = format!(
        "INSERT INTO plans (name, {PLAN_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO UPDATE
            SET requests_per_minute = excluded.requests_per_minute, burst = excluded.burst,
                events_per_month = excluded.events_per_month, events_per_batch = excluded.events_per_batch"
    );
    let events_per_month = after.events_per_month.map(u64::cast_signed);
    transaction.execute(
        &upsert,
        params![name, after.requests_per_minute, after.burst, events_per_month, after.events_per_batch],
    )?;
    transaction.commit()?;
    Ok(PlanUpdate { before, after })
}

pub(super) fn usage_of_all(
    connection: &Connection,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> Result<Vec<ProjectUsage>, StoreError> {
    let sums = "
        SELECT p.project_id, p.name, coalesce(sum(events - cancelled), 0), coalesce(sum(bytes), 0),
               coalesce(sum(duplicates), 0), coalesce(sum(dead), 0), coalesce(sum(conflicts), 0),
               coalesce(sum(cancelled), 0)
          FROM projects p LEFT JOIN usage_hourly u
               ON u.project_id = p.project_id AND u.hour >= ?1 AND u.hour < ?2
         GROUP BY p.project_id ORDER BY p.name";
    let usage = |row: &Row<'_>| {
        Ok(ProjectUsage {
            project: ProjectId(row.get(0)?),
            name: row.get(1)?,
            usage: UsageRow {
                start: from,
                events: count(row, 2)?,
                bytes: count(row, 3)?,
                duplicates: count(row, 4)?,
                dead: count(row, 5)?,
                conflicts: count(row, 6)?,
                cancelled: count(row, 7)?,
            },
        })
    };
    let mut statement = connection.prepare(sums)?;
    let rows = statement.query_map([micros(from), micros(to)], usage)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
