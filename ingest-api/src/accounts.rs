//! The snapshot of keys and plans in memory. The request path reads it without a lock and never waits for the
//! store. While the store is down, the last snapshot stays.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use millrace_event::key::{hash_key, same_hash};
use millrace_event::plan::{Account, Plan, ProjectId};
use millrace_event::policy::KeyScope;
use millrace_store::{KeyUse, SharedStore, StoreError};
use millrace_telemetry::incident::Incident;
use time::OffsetDateTime;

use crate::metrics;
use crate::project::Project;

/// The snapshot is read again at least this often, whether or not a change was announced.
const POLL_EVERY: Duration = Duration::from_secs(5);
/// Between two refreshes, however many changes are announced.
const REFRESH_PAUSE: Duration = Duration::from_millis(20);
/// After a refresh that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long a refresh may take.
const REFRESH_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two writes of last-used times.
const FLUSH_EVERY: Duration = Duration::from_secs(30);

/// An API key of the snapshot, with its account.
#[derive(Debug)]
pub struct ApiKey {
    pub account: Account,
    pub project: Arc<Project>,
    /// Seconds since 1970; 0 when the store has the time already. Shared with the next snapshot.
    last_used_s: Arc<AtomicI64>,
}

/// A project that has a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectSummary {
    pub id: ProjectId,
    pub name: Arc<str>,
    pub plan: Arc<Plan>,
}

/// All keys that are not revoked, by hash. Some may have expired since it was read.
#[derive(Debug, Default)]
struct Snapshot {
    keys: HashMap<[u8; 32], Arc<ApiKey>>,
}

/// The reason why a key cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LookupError {
    #[error("the server is starting and has not read the keys yet; send the same request again later")]
    NotLoaded,
    /// Unknown, revoked or expired. The client does not learn which.
    #[error("the key is not known")]
    UnknownKey,
}

/// The accounts as this process has read them.
#[derive(Debug, Default)]
pub struct Accounts {
    snapshot: ArcSwapOption<Snapshot>,
    /// Why the store could not be read.
    fault: Incident,
}

impl Accounts {
    /// Whether there is a snapshot.
    pub fn loaded(&self) -> bool {
        self.snapshot.load().is_some()
    }

    /// Why the last attempt to read the accounts failed; `None` when it did not.
    pub fn fault(&self) -> Option<String> {
        self.fault.reason()
    }

    /// Finds a key that is valid at this moment. A rotated key stops working exactly at the end of its
    /// overlap, even if the store cannot be reached then.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn authenticate(&self, key: &str, now: OffsetDateTime) -> Result<Arc<ApiKey>, LookupError> {
        let snapshot = self.snapshot.load();
        let snapshot = snapshot.as_ref().ok_or(LookupError::NotLoaded)?;
        let hash = hash_key(key);
        // The map is searched by a hash that an attacker cannot choose; the comparison that decides is
        // constant-time.
        match snapshot.keys.get(&hash) {
            Some(key) if same_hash(&key.account.key_hash, &hash) && key.is_live(now) => Ok(Arc::clone(key)),
            _ => Err(LookupError::UnknownKey),
        }
    }

    /// Every project that has a key, once.
    pub fn projects(&self) -> Vec<ProjectSummary> {
        let snapshot = self.snapshot.load();
        let keys = snapshot.iter().flat_map(|snapshot| snapshot.keys.values());
        let mut projects: Vec<_> = keys
            .map(|key| ProjectSummary {
                id: key.account.project,
                name: Arc::clone(&key.account.project_name),
                plan: Arc::clone(&key.account.plan),
            })
            .collect();
        projects.sort_unstable_by_key(|project| project.id);
        projects.dedup_by_key(|project| project.id);
        projects
    }

    /// Reads the snapshot again. Returns how many keys it has.
    ///
    /// # Errors
    /// [`StoreError`]; the old snapshot stays.
    pub async fn refresh(&self, store: &SharedStore) -> Result<usize, StoreError> {
        let read = tokio::time::timeout(REFRESH_TIME_MAX, store.accounts()).await;
        let read = read.map_err(|_| StoreError::Unavailable("no answer in time".to_owned()))?;
        let accounts = read?;
        let old = self.snapshot.load_full().unwrap_or_default();
        let mut projects: HashMap<ProjectId, Arc<Project>> = HashMap::new();
        for key in old.keys.values() {
            projects.insert(key.account.project, Arc::clone(&key.project));
        }
        let keys: HashMap<_, _> = accounts
            .into_iter()
            .map(|account| {
                let project = projects
                    .entry(account.project)
                    .and_modify(|project| {
                        if *project.plan() != account.plan {
                            *project = Arc::new(project.with_plan(Arc::clone(&account.plan)));
                        }
                    })
                    .or_insert_with(|| Arc::new(Project::new(Arc::clone(&account.plan))));
                let project = Arc::clone(project);
                let last_used_s = match old.keys.get(&account.key_hash) {
                    Some(key) => Arc::clone(&key.last_used_s),
                    None => Arc::default(),
                };
                (account.key_hash, Arc::new(ApiKey { account, project, last_used_s }))
            })
            .collect();
        let count = keys.len();
        self.snapshot.store(Some(Arc::new(Snapshot { keys })));
        Ok(count)
    }

    /// Keeps the snapshot fresh. Never returns.
    pub async fn keep_fresh(&self, store: &SharedStore) -> Infallible {
        loop {
            match self.refresh(store).await {
                Ok(keys) => {
                    metrics::accounts_refreshed(Some(keys));
                    if self.fault.end() {
                        tracing::info!(keys, "reading keys and plans works again");
                    }
                    tokio::time::sleep(REFRESH_PAUSE).await;
                    store.accounts_changed(POLL_EVERY).await;
                }
                Err(error) => {
                    metrics::accounts_refreshed(None);
                    if self.fault.begin(&error.without_addresses()) {
                        tracing::warn!(%error, "cannot read keys and plans from the store; using those that were read last");
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Writes last-used times to the store every 30 seconds. Never returns.
    pub async fn keep_last_used(&self, store: &SharedStore) -> Infallible {
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            self.flush_last_used(store).await;
        }
    }

    /// Writes the last-used times that the store does not have yet. If that fails, the next flush writes
    /// them.
    pub async fn flush_last_used(&self, store: &SharedStore) {
        let Some(snapshot) = self.snapshot.load_full() else { return };
        let mut used = Vec::new();
        for key in snapshot.keys.values() {
            let seconds = key.last_used_s.swap(0, Ordering::Relaxed);
            if let (true, Ok(at)) = (seconds != 0, OffsetDateTime::from_unix_timestamp(seconds)) {
                used.push(KeyUse { key_id: key.account.key_id, at });
            }
        }
        if used.is_empty() {
            return;
        }
        if let Err(error) = store.touch_keys(&used).await {
            tracing::debug!(%error, "cannot write the last-used times of keys; trying again later");
            let unwritten: HashMap<i64, i64> =
                used.iter().map(|key| (key.key_id, key.at.unix_timestamp())).collect();
            for key in snapshot.keys.values() {
                if let Some(seconds) = unwritten.get(&key.account.key_id) {
                    key.last_used_s.fetch_max(*seconds, Ordering::Relaxed);
                }
            }
        }
    }
}

impl ApiKey {
    fn is_live(&self, now: OffsetDateTime) -> bool {
        self.account.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// Notes that the key was used just now.
    pub fn touch(&self) {
        self.last_used_s.store(OffsetDateTime::now_utc().unix_timestamp(), Ordering::Relaxed);
    }

    /// Whether answers may tell something about the project. The key of a web page is public, and learns
    /// nothing.
    pub fn sees_limits(&self) -> bool {
        self.account.scope.allows(KeyScope::Read)
    }

    /// The plan in force.
    pub fn plan(&self) -> &Plan {
        self.project.plan()
    }
}

#[cfg(test)]
mod tests {
    use millrace_event::policy::ProjectPolicy;

    use super::*;

    #[test]
    fn a_rotated_key_is_valid_until_the_exact_end_of_its_overlap() {
        const KEY: &str = "a-key-of-a-unit-test";
        let expires_at = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let plan = Arc::new(Plan {
            name: "test".into(),
            requests_per_minute: 60,
            burst: 60,
            events_per_month: Some(100),
            events_per_batch: 10,
        });
        let account = Account {
            project: ProjectId(1),
            project_name: "shop".into(),
            key_id: 1,
            key_hash: hash_key(KEY),
            plan: Arc::clone(&plan),
            policy: ProjectPolicy::default(),
            scope: KeyScope::Full,
            allowed_origins: Vec::new(),
            expires_at: Some(expires_at),
            signing_secrets: Vec::new(),
        };
        let project = Arc::new(Project::new(plan));
        let key = Arc::new(ApiKey { account, project, last_used_s: Arc::default() });
        let accounts = Accounts::default();
        accounts.snapshot.store(Some(Arc::new(Snapshot { keys: HashMap::from([(hash_key(KEY), key)]) })));
        assert!(accounts.authenticate(KEY, expires_at - Duration::from_nanos(1)).is_ok());
        assert_eq!(accounts.authenticate(KEY, expires_at).map(|_| ()), Err(LookupError::UnknownKey));
    }
}
