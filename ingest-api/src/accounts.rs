//! The snapshot of keys and plans in memory. The request path reads it without a lock and never waits for the
//! store. While the store is down, the last snapshot stays.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use millrace_event::key::{hash_key, same_hash};
use millrace_event::limit::LimitSet;
use millrace_event::plan::{Account, Plan, ProjectId};
use millrace_store::{ChangeMark, ChangedAccounts, KeyUse, SharedStore, StoreError};
use millrace_telemetry::incident::Incident;
use time::OffsetDateTime;

use crate::account_index::AccountIndex;
use crate::api_key::ApiKey;
use crate::limit_snapshot::LimitSnapshot;
use crate::metrics;

/// How long to wait for an announcement of changes. While the store cannot announce changes, all accounts are
/// read again after this time.
const POLL_EVERY: Duration = Duration::from_secs(5);
/// All accounts are read again after this time, also while every change is announced. A change that was not
/// announced, such as one by an operator who has switched off the triggers, takes effect then.
const ALL_EVERY: Duration = Duration::from_secs(60);
/// Between two refreshes, however many changes are announced.
const REFRESH_PAUSE: Duration = Duration::from_millis(20);
/// After a refresh that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long a refresh may take.
const REFRESH_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two writes of last-used times.
const FLUSH_EVERY: Duration = Duration::from_secs(30);

/// A project that has a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectSummary {
    pub id: ProjectId,
    pub name: Arc<str>,
    pub plan: Arc<Plan>,
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
    snapshot: ArcSwapOption<AccountIndex>,
    limits: LimitSnapshot,
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
        match snapshot.key(&hash) {
            Some(key) if same_hash(&key.account.key_hash, &hash) && key.is_live(now) => Ok(Arc::clone(key)),
            _ => Err(LookupError::UnknownKey),
        }
    }

    /// Every project that has a key, once.
    pub fn projects(&self) -> Vec<ProjectSummary> {
        let snapshot = self.snapshot.load();
        let accounts = snapshot.iter().flat_map(|snapshot| snapshot.projects());
        let mut projects: Vec<_> = accounts
            .map(|account| ProjectSummary {
                id: account.project,
                name: Arc::clone(&account.project_name),
                plan: Arc::clone(&account.plan),
            })
            .collect();
        projects.sort_unstable_by_key(|project| project.id);
        projects
    }

    /// The limits of the customers of a project; `None` if there are none.
    pub fn limits(&self, project: ProjectId) -> Option<Arc<LimitSet>> {
        self.limits.of(project)
    }

    /// Reads all accounts again. Returns how many keys there are.
    ///
    /// # Errors
    /// [`StoreError`]; the old snapshot stays.
    pub async fn refresh(&self, store: &SharedStore) -> Result<usize, StoreError> {
        // Before the accounts: with the first accounts, batches are admitted.
        self.limits.refresh(store).await?;
        let accounts = in_time(store.accounts()).await?;
        Ok(self.publish(self.current().replaced(accounts)))
    }

    /// Reads the accounts of these projects again. Returns how many keys there are in all.
    ///
    /// # Errors
    /// [`StoreError`]; the old snapshot stays.
    pub async fn refresh_projects(
        &self,
        store: &SharedStore,
        projects: &BTreeSet<ProjectId>,
    ) -> Result<usize, StoreError> {
        self.limits.refresh(store).await?;
        let numbers: Vec<_> = projects.iter().copied().collect();
        let accounts = in_time(store.accounts_of(&numbers)).await?;
        Ok(self.publish(self.current().with(projects, accounts)))
    }

    fn current(&self) -> Arc<AccountIndex> {
        self.snapshot.load_full().unwrap_or_default()
    }

    fn publish(&self, snapshot: AccountIndex) -> usize {
        let keys = snapshot.len();
        self.snapshot.store(Some(Arc::new(snapshot)));
        keys
    }

    /// Keeps the snapshot fresh. Never returns. It must run once at a time, so that an older reading never
    /// replaces a newer one.
    pub async fn keep_fresh(&self, store: &SharedStore) -> Infallible {
        let mut mark = ChangeMark::default();
        let mut stale = ChangedAccounts::All;
        let mut all_read_at = Instant::now();
        loop {
            if stale == ChangedAccounts::All {
                all_read_at = Instant::now();
            }
            if self.refresh_stale(store, &stale).await {
                tokio::time::sleep(REFRESH_PAUSE).await;
                let changes = store.accounts_changed(mark, POLL_EVERY).await;
                mark = changes.mark;
                let is_all_due = all_read_at.elapsed() >= ALL_EVERY;
                stale = if is_all_due { ChangedAccounts::All } else { changes.changed };
            } else {
                tokio::time::sleep(RETRY_PAUSE).await;
                stale = ChangedAccounts::All;
            }
        }
    }

    /// Reads again what is stale. Returns whether that worked.
    async fn refresh_stale(&self, store: &SharedStore, stale: &ChangedAccounts) -> bool {
        let refreshed = match stale {
            ChangedAccounts::All => self.refresh(store).await,
            ChangedAccounts::Projects(projects) => self.refresh_projects(store, projects).await,
            ChangedAccounts::Nothing => return true,
        };
        match refreshed {
            Ok(keys) => {
                metrics::accounts_refreshed(Some(keys));
                if self.fault.end() {
                    tracing::info!(keys, "reading keys and plans works again");
                }
                true
            }
            Err(error) => {
                metrics::accounts_refreshed(None);
                if self.fault.begin(&error.without_addresses()) {
                    tracing::warn!(%error, "cannot read keys and plans from the store; using those that were read last");
                }
                false
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
        for key in snapshot.keys() {
            let at = key.take_last_used_s().map(OffsetDateTime::from_unix_timestamp);
            if let Some(Ok(at)) = at {
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
            for key in snapshot.keys() {
                if let Some(seconds) = unwritten.get(&key.account.key_id) {
                    key.return_last_used_s(*seconds);
                }
            }
        }
    }
}

/// A deadline for reading accounts.
async fn in_time(
    reading: impl Future<Output = Result<Vec<Account>, StoreError>>,
) -> Result<Vec<Account>, StoreError> {
    let read = tokio::time::timeout(REFRESH_TIME_MAX, reading).await;
    let read = read.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer in time".to_owned())));
    read.inspect(|accounts| metrics::accounts_read(accounts.len()))
}

#[cfg(test)]
mod tests {
    use millrace_event::policy::{KeyScope, ProjectPolicy};

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
        let accounts = Accounts::default();
        accounts.publish(AccountIndex::default().replaced(vec![account]));
        assert!(accounts.authenticate(KEY, expires_at - Duration::from_nanos(1)).is_ok());
        assert_eq!(accounts.authenticate(KEY, expires_at).map(|_| ()), Err(LookupError::UnknownKey));
    }
}
