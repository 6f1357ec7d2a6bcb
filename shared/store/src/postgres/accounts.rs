//! Keys, projects and plans: reads for the request path, and changes by operators.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use deadpool_postgres::Client;
use time::OffsetDateTime;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::copy::Instant;
use crate::columns::{PLAN_COLUMNS, POLICY_COLUMNS};
use crate::creation::{
    UnsavedKey, check_project_name, key_is_taken, no_such_plan, no_such_project, project_is_taken,
};
use crate::{KeyOptions, KeyUse, NewKey, PolicyChange, StoreError};
use millrace_event::plan::{Account, Plan, ProjectId};
use millrace_event::policy::ProjectPolicy;

pub(super) async fn accounts(client: &Client) -> Result<Vec<Account>, StoreError> {
    let statement = client.prepare_cached(&live_keys("true")).await?;
    Ok(read_accounts(&client.query(&statement, &[]).await?))
}

pub(super) async fn accounts_of(client: &Client, projects: &[ProjectId]) -> Result<Vec<Account>, StoreError> {
    let projects: Vec<_> = projects.iter().map(|project| project.0).collect();
    let statement = client.prepare_cached(&live_keys("k.project_id = ANY($1)")).await?;
    Ok(read_accounts(&client.query(&statement, &[&projects]).await?))
}

/// Reads the keys that match a condition and can be used now.
fn live_keys(condition: &str) -> String {
    format!(
        "SELECT k.key_id, k.key_hash, k.expires_at, k.signing_secrets, k.scope, k.allowed_origins, {POLICY_COLUMNS},
                p.project_id, p.name AS project_name, l.name, {PLAN_COLUMNS}
           FROM api_keys k JOIN projects p USING (project_id) JOIN plans l ON l.name = p.plan
          WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()) AND {condition}
          ORDER BY k.key_id"
    )
}

fn read_accounts(rows: &[tokio_postgres::Row]) -> Vec<Account> {
    let mut plans: HashMap<String, Arc<Plan>> = HashMap::new();
    let mut names: HashMap<i64, Arc<str>> = HashMap::new();
    let mut accounts = Vec::new();
    for row in rows {
        let plan = plans.entry(row.get("name")).or_insert_with(|| Arc::new(plan(row)));
        let project: i64 = row.get("project_id");
        let name = names.entry(project).or_insert_with(|| row.get::<_, &str>("project_name").into());
        let hash: &[u8] = row.get("key_hash");
        accounts.push(Account {
            project: ProjectId(project),
            project_name: Arc::clone(name),
            key_id: row.get("key_id"),
            key_hash: hash.try_into().expect("a check keeps the hash at 32 bytes"),
            plan: Arc::clone(plan),
            policy: policy(row),
            scope: named(row, "scope"),
            allowed_origins: row.get("allowed_origins"),
            expires_at: row.get::<_, Option<Instant>>("expires_at").map(OffsetDateTime::from),
            signing_secrets: row.get("signing_secrets"),
        });
    }
    accounts
}

/// Reads [`POLICY_COLUMNS`].
pub(super) fn policy(row: &tokio_postgres::Row) -> ProjectPolicy {
    let seconds = |column| row.get::<_, Option<i64>>(column).map(i64::unsigned_abs);
    ProjectPolicy {
        dedupe: named(row, "dedupe"),
        oldest_s: seconds("oldest_s"),
        newest_s: seconds("newest_s"),
        out_of_bounds: named(row, "out_of_bounds"),
        store_ip: row.get("store_ip"),
    }
}

/// The values of [`POLICY_COLUMNS`].
pub(super) struct PolicyRow {
    pub(super) dedupe: &'static str,
    pub(super) oldest_s: Option<i64>,
    pub(super) newest_s: Option<i64>,
    pub(super) out_of_bounds: &'static str,
    pub(super) store_ip: bool,
}

impl From<ProjectPolicy> for PolicyRow {
    fn from(policy: ProjectPolicy) -> Self {
        let ProjectPolicy { dedupe, oldest_s, newest_s, out_of_bounds, store_ip } = policy;
        Self {
            dedupe: dedupe.into(),
            oldest_s: oldest_s.map(u64::cast_signed),
            newest_s: newest_s.map(u64::cast_signed),
            out_of_bounds: out_of_bounds.into(),
            store_ip,
        }
    }
}

/// A value of a closed list, by its name in a column.
pub(super) fn named<T: FromStr>(row: &tokio_postgres::Row, column: &str) -> T {
    row.get::<_, &str>(column).parse().ok().expect("a check allows only names of the list")
}

pub(super) fn plan(row: &tokio_postgres::Row) -> Plan {
    let positive = |column| u32::try_from(row.get::<_, i32>(column)).expect("a check keeps it positive");
    let quota: Option<i64> = row.get("events_per_month");
    Plan {
        name: row.get("name"),
        requests_per_minute: positive("requests_per_minute"),
        burst: positive("burst"),
        events_per_month: quota.map(i64::unsigned_abs),
        events_per_batch: positive("events_per_batch"),
    }
}

pub(super) async fn plans(client: &Client) -> Result<Vec<Plan>, StoreError> {
    let all = format!("SELECT name, {PLAN_COLUMNS} FROM plans ORDER BY requests_per_minute, name");
    Ok(client.query(&all, &[]).await?.iter().map(plan).collect())
}

pub(super) async fn touch_keys(client: &Client, uses: &[KeyUse]) -> Result<(), StoreError> {
    // Locked in the order of their ids, so that two processes with the same keys do not deadlock.
    let touch = "
        WITH used AS (
            SELECT key_id, max(at) AS at FROM unnest($1::bigint[], $2::timestamptz[]) u (key_id, at) GROUP BY key_id),
        locked AS (
            SELECT k.key_id, used.at FROM api_keys k JOIN used USING (key_id)
             WHERE k.last_used_at IS NULL OR k.last_used_at < used.at ORDER BY k.key_id FOR UPDATE OF k)
        UPDATE api_keys k SET last_used_at = locked.at FROM locked WHERE k.key_id = locked.key_id";
    let keys: Vec<_> = uses.iter().map(|key| key.key_id).collect();
    let times: Vec<_> = uses.iter().map(|key| Instant::from(key.at)).collect();
    client.execute(touch, &[&keys, &times]).await?;
    Ok(())
}

pub(super) async fn create_project(
    client: &mut Client,
    name: &str,
    plan: &str,
    policy: &PolicyChange,
    key: &KeyOptions,
) -> Result<(ProjectId, NewKey), StoreError> {
    check_project_name(name)?;
    let policy = PolicyRow::from(policy.apply(ProjectPolicy::default())?);
    let new_key = UnsavedKey::new(key)?;
    let transaction = client.transaction().await?;
    let insert = format!(
        "INSERT INTO projects (name, plan, {POLICY_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING project_id"
    );
    let PolicyRow { dedupe, oldest_s, newest_s, out_of_bounds, store_ip } = &policy;
    let values: [&(dyn ToSql + Sync); 7] =
        [&name, &plan, dedupe, oldest_s, newest_s, out_of_bounds, store_ip];
    let project: i64 = match transaction.query_one(&insert, &values).await {
        Ok(row) => row.get(0),
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            return Err(project_is_taken(name));
        }
        Err(error) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => {
            return Err(no_such_plan(plan));
        }
        Err(error) => return Err(error.into()),
    };
    let created = store_key(new_key, &transaction, project).await?;
    transaction.commit().await?;
    Ok((ProjectId(project), created))
}

pub(super) async fn create_key(
    client: &mut Client,
    project: &str,
    key: &KeyOptions,
) -> Result<NewKey, StoreError> {
    let new_key = UnsavedKey::new(key)?;
    let transaction = client.transaction().await?;
    let find = "SELECT project_id FROM projects WHERE name = $1";
    let Some(row) = transaction.query_opt(find, &[&project]).await? else {
        return Err(no_such_project(project));
    };
    let created = store_key(new_key, &transaction, row.get(0)).await?;
    transaction.commit().await?;
    Ok(created)
}

pub(super) async fn revoke_key(client: &Client, key_id: i64) -> Result<bool, StoreError> {
    let revoke = "UPDATE api_keys SET revoked_at = now() WHERE key_id = $1 AND revoked_at IS NULL";
    Ok(client.execute(revoke, &[&key_id]).await? == 1)
}

/// Stores a new key. The result is the only place that has its text.
pub(super) async fn store_key(
    new_key: UnsavedKey,
    transaction: &deadpool_postgres::Transaction<'_>,
    project: i64,
) -> Result<NewKey, StoreError> {
    let insert = "INSERT INTO api_keys (project_id, key_hash, signing_secrets, scope, allowed_origins)
                  VALUES ($1, $2, $3, $4, $5) RETURNING key_id";
    let secrets: Vec<&[u8]> = new_key.secret().into_iter().collect();
    let (hash, scope): (_, &str) = (new_key.hash(), new_key.scope.into());
    let values: [&(dyn ToSql + Sync); 5] =
        [&project, &hash.as_slice(), &secrets, &scope, &new_key.allowed_origins];
    match transaction.query_one(insert, &values).await {
        Ok(row) => Ok(new_key.into_new_key(row.get(0))),
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Err(key_is_taken()),
        Err(error) => Err(error.into()),
    }
}
