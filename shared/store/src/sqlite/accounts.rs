//! Keys, projects and plans: reads for the request path, and changes by operators.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use rusqlite::{Connection, Error, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::clock::{micros, moment, now_us};
use super::error::{is_foreign_key_violation, is_unique_violation};
use crate::columns::{PLAN_COLUMNS, POLICY_COLUMNS};
use crate::creation::{
    UnsavedKey, check_project_name, key_is_taken, no_such_plan, no_such_project, project_is_taken,
};
use crate::{KeyOptions, KeyUse, NewKey, PolicyChange, StoreError};
use millrace_event::plan::{Account, Plan, ProjectId};
use millrace_event::policy::ProjectPolicy;

const SECRET_BYTES: usize = 32;

pub(super) fn accounts(connection: &Connection) -> Result<Vec<Account>, StoreError> {
    let live_keys = format!(
        "SELECT k.key_id, k.key_hash, k.expires_at, k.signing_secrets, k.scope, k.allowed_origins, {POLICY_COLUMNS},
                p.project_id, p.name AS project_name, l.name, {PLAN_COLUMNS}
           FROM api_keys k JOIN projects p USING (project_id) JOIN plans l ON l.name = p.plan
          WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?1) ORDER BY k.key_id"
    );
    let mut plans: HashMap<String, Arc<Plan>> = HashMap::new();
    let mut names: HashMap<i64, Arc<str>> = HashMap::new();
    let mut accounts = Vec::new();
    let mut statement = connection.prepare_cached(&live_keys)?;
    let mut rows = statement.query([now_us()])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get("name")?;
        let plan = match plans.get(&name) {
            Some(plan) => plan,
            None => &*plans.entry(name).or_insert(Arc::new(plan(row)?)),
        };
        let project: i64 = row.get("project_id")?;
        let project_name: String = row.get("project_name")?;
        let secrets: Vec<u8> = row.get("signing_secrets")?;
        accounts.push(Account {
            project: ProjectId(project),
            project_name: Arc::clone(names.entry(project).or_insert_with(|| project_name.into())),
            key_id: row.get("key_id")?,
            key_hash: row.get("key_hash")?,
            plan: Arc::clone(plan),
            policy: policy(row)?,
            scope: named(row, "scope")?,
            allowed_origins: origins(row)?,
            expires_at: row.get::<_, Option<i64>>("expires_at")?.map(moment),
            signing_secrets: secrets.chunks(SECRET_BYTES).map(<[u8]>::to_vec).collect(),
        });
    }
    Ok(accounts)
}

/// Reads [`POLICY_COLUMNS`].
pub(super) fn policy(row: &Row<'_>) -> Result<ProjectPolicy, Error> {
    let seconds = |column| Ok::<_, Error>(row.get::<_, Option<i64>>(column)?.map(i64::unsigned_abs));
    Ok(ProjectPolicy {
        dedupe: named(row, "dedupe")?,
        oldest_s: seconds("oldest_s")?,
        newest_s: seconds("newest_s")?,
        out_of_bounds: named(row, "out_of_bounds")?,
        store_ip: row.get("store_ip")?,
    })
}

/// The values of [`POLICY_COLUMNS`].
pub(super) fn policy_row(
    policy: ProjectPolicy,
) -> (&'static str, Option<i64>, Option<i64>, &'static str, bool) {
    let ProjectPolicy { dedupe, oldest_s, newest_s, out_of_bounds, store_ip } = policy;
    let seconds = |bound: Option<u64>| bound.map(u64::cast_signed);
    (dedupe.into(), seconds(oldest_s), seconds(newest_s), out_of_bounds.into(), store_ip)
}

/// A value of a closed list, by its name in a column.
pub(super) fn named<T: FromStr>(row: &Row<'_>, column: &str) -> Result<T, Error> {
    let name: String = row.get(column)?;
    Ok(name.parse().ok().expect("a check allows only names of the list"))
}

/// The column `allowed_origins`. A list that cannot be read allows no page.
pub(super) fn origins(row: &Row<'_>) -> Result<Vec<String>, Error> {
    let json: String = row.get("allowed_origins")?;
    Ok(serde_json::from_str(&json).unwrap_or_else(|_| vec![json]))
}

pub(super) fn plan(row: &Row<'_>) -> Result<Plan, Error> {
    Ok(Plan {
        name: row.get("name")?,
        requests_per_minute: row.get("requests_per_minute")?,
        burst: row.get("burst")?,
        events_per_month: row.get::<_, Option<i64>>("events_per_month")?.map(i64::unsigned_abs),
        events_per_batch: row.get("events_per_batch")?,
    })
}

pub(super) fn plans(connection: &Connection) -> Result<Vec<Plan>, StoreError> {
    let all = format!("SELECT name, {PLAN_COLUMNS} FROM plans ORDER BY requests_per_minute, name");
    Ok(connection.prepare_cached(&all)?.query_map([], plan)?.collect::<Result<_, _>>()?)
}

pub(super) fn touch_keys(connection: &mut Connection, uses: &[KeyUse]) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let touch = "UPDATE api_keys SET last_used_at = ?2
                  WHERE key_id = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)";
    for KeyUse { key_id, at } in uses {
        transaction.prepare_cached(touch)?.execute(params![key_id, micros(*at)])?;
    }
    Ok(transaction.commit()?)
}

pub(super) fn create_project(
    connection: &mut Connection,
    name: &str,
    plan: &str,
    policy: &PolicyChange,
    key: &KeyOptions,
) -> Result<(ProjectId, NewKey), StoreError> {
    check_project_name(name)?;
    let policy = policy.apply(ProjectPolicy::default())?;
    let new_key = UnsavedKey::new(key)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let insert = format!(
        "INSERT INTO projects (name, plan, {POLICY_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING project_id"
    );
    let (dedupe, oldest_s, newest_s, out_of_bounds, store_ip) = policy_row(policy);
    let values = params![name, plan, dedupe, oldest_s, newest_s, out_of_bounds, store_ip];
    let project: i64 = match transaction.query_row(&insert, values, |row| row.get(0)) {
        Ok(project) => project,
        Err(error) if is_unique_violation(&error) => return Err(project_is_taken(name)),
        Err(error) if is_foreign_key_violation(&error) => return Err(no_such_plan(plan)),
        Err(error) => return Err(error.into()),
    };
    let created = store_key(new_key, &transaction, project)?;
    transaction.commit()?;
    Ok((ProjectId(project), created))
}

pub(super) fn create_key(
    connection: &mut Connection,
    project: &str,
    key: &KeyOptions,
) -> Result<NewKey, StoreError> {
    let new_key = UnsavedKey::new(key)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let find = "SELECT project_id FROM projects WHERE name = ?1";
    let found = transaction.query_row(find, [project], |row| row.get(0)).optional()?;
    let created = store_key(new_key, &transaction, found.ok_or_else(|| no_such_project(project))?)?;
    transaction.commit()?;
    Ok(created)
}

pub(super) fn revoke_key(connection: &mut Connection, key_id: i64) -> Result<bool, StoreError> {
    let revoke = "UPDATE api_keys SET revoked_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
                   WHERE key_id = ?1 AND revoked_at IS NULL";
    Ok(connection.execute(revoke, [key_id])? == 1)
}

/// Stores a new key. The result is the only place that has its text.
pub(super) fn store_key(
    new_key: UnsavedKey,
    transaction: &Transaction<'_>,
    project: i64,
) -> Result<NewKey, StoreError> {
    let insert = "INSERT INTO api_keys (project_id, key_hash, signing_secrets, scope, allowed_origins)
                  VALUES (?1, ?2, ?3, ?4, ?5) RETURNING key_id";
    let secrets = new_key.secret().unwrap_or_default();
    let scope: &str = new_key.scope.into();
    let origins = serde_json::to_string(&new_key.allowed_origins).expect("strings are JSON");
    let values = params![project, new_key.hash(), secrets, scope, origins];
    match transaction.query_row(insert, values, |row| row.get(0)) {
        Ok(key_id) => Ok(new_key.into_new_key(key_id)),
        Err(error) if is_unique_violation(&error) => Err(key_is_taken()),
        Err(error) => Err(error.into()),
    }
}
