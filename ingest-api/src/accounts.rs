//! The snapshot of keys and plans in memory. The request path reads it without a lock and never waits for the store;
//! with the store down, the last snapshot stays.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use crate::metrics;
use arc_swap::ArcSwapOption;
use millrace_event::key::{hash_key, same_hash};
use millrace_event::plan::{Account, LimitState, Plan, ProjectId, month_of};
use millrace_store::{KeyUse, SharedStore, StoreError};
use time::OffsetDateTime;

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

/// One key that is known, and what it opens.
#[derive(Debug)]
pub struct Known {
    /// The key's account, as the store has it.
    pub account: Account,
    /// What this process remembers of its project.
    pub project: Arc<Project>,
    /// Seconds since 1970, 0 when there is nothing to write. Outlives the snapshot.
    last_used_s: Arc<AtomicI64>,
}

/// What this process remembers of a project between requests. A change of plan starts a new one.
#[derive(Debug)]
pub struct Project {
    plan: Arc<Plan>,
    seen: Mutex<Option<Seen>>,
    blocked_until: Mutex<Option<Instant>>,
}

/// The stream's word on a project, and when we heard it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    limit_state: LimitState,
    at: Instant,
}

/// All keys that are not revoked, by hash. Some may have expired since it was read.
#[derive(Debug, Default)]
struct Snapshot {
    keys: HashMap<[u8; 32], Arc<Known>>,
}

/// Why a key opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LookupError {
    /// No snapshot was ever read.
    #[error("the accounts have not been loaded yet")]
    NotLoaded,
    /// Unknown, revoked or expired; nobody is told which.
    #[error("the key is not known")]
    UnknownKey,
}

/// The accounts of this process.
#[derive(Debug, Default)]
pub struct Accounts {
    snapshot: ArcSwapOption<Snapshot>,
}

impl Accounts {
    /// Whether there is a snapshot.
    pub fn loaded(&self) -> bool {
        self.snapshot.load().is_some()
    }

    /// The account that a key opens at this moment. A key that has been rotated is refused from the moment at which its
    /// overlap ends, whatever is known of the store by then.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn open(&self, key: &str, now: OffsetDateTime) -> Result<Arc<Known>, LookupError> {
        let snapshot = self.snapshot.load();
        let snapshot = snapshot.as_ref().ok_or(LookupError::NotLoaded)?;
        let hash = hash_key(key);
        // The map is searched by a hash that an attacker cannot steer; the comparison that decides is constant-time.
        match snapshot.keys.get(&hash) {
            Some(known) if same_hash(&known.account.key_hash, &hash) && known.is_live(now) => {
                Ok(Arc::clone(known))
            }
            _ => Err(LookupError::UnknownKey),
        }
    }

    /// Every project that has a key, once: its number, its name and its plan.
    pub fn projects(&self) -> Vec<(ProjectId, Arc<str>, Arc<Plan>)> {
        let snapshot = self.snapshot.load();
        let keys = snapshot.iter().flat_map(|snapshot| snapshot.keys.values());
        let mut projects: Vec<_> = keys
            .map(|known| {
                let account = &known.account;
                (account.project, Arc::clone(&account.project_name), Arc::clone(&account.plan))
            })
            .collect();
        projects.sort_unstable_by_key(|(project, ..)| *project);
        projects.dedup_by_key(|(project, ..)| *project);
        projects
    }

    /// Reads the snapshot anew.
    ///
    /// # Errors
    /// [`StoreError`]; the old snapshot stays.
    pub async fn refresh(&self, store: &SharedStore) -> Result<usize, StoreError> {
        let read = tokio::time::timeout(REFRESH_TIME_MAX, store.accounts()).await;
        let read = read.map_err(|_| StoreError::Unavailable("no answer in time".to_owned()))?;
        let accounts = read?;
        let old = self.snapshot.load_full().unwrap_or_default();
        let mut projects: HashMap<ProjectId, Arc<Project>> = HashMap::new();
        for known in old.keys.values() {
            projects.insert(known.account.project, Arc::clone(&known.project));
        }
        let keys: HashMap<_, _> = accounts
            .into_iter()
            .map(|account| {
                let project = projects
                    .entry(account.project)
                    .and_modify(|project| {
                        if project.plan != account.plan {
                            *project = Arc::new(project.under(Arc::clone(&account.plan)));
                        }
                    })
                    .or_insert_with(|| Arc::new(Project::new(Arc::clone(&account.plan))));
                let project = Arc::clone(project);
                let last_used_s = match old.keys.get(&account.key_hash) {
                    Some(known) => Arc::clone(&known.last_used_s),
                    None => Arc::default(),
                };
                (account.key_hash, Arc::new(Known { account, project, last_used_s }))
            })
            .collect();
        let count = keys.len();
        self.snapshot.store(Some(Arc::new(Snapshot { keys })));
        Ok(count)
    }

    /// Keeps the snapshot fresh. Never returns.
    pub async fn keep_fresh(&self, store: &SharedStore) -> std::convert::Infallible {
        let mut failing = false;
        loop {
            match self.refresh(store).await {
                Ok(count) => {
                    metrics::accounts_refreshed(Some(count));
                    if failing {
                        tracing::info!(keys = count, "the accounts can be read again: {count} keys");
                    }
                    failing = false;
                }
                Err(error) => {
                    metrics::accounts_refreshed(None);
                    if !failing {
                        tracing::warn!(%error, "the accounts cannot be read; the last snapshot stays: {error}");
                    }
                    failing = true;
                }
            }
            if failing {
                tokio::time::sleep(RETRY_PAUSE).await;
            } else {
                tokio::time::sleep(REFRESH_PAUSE).await;
                store.accounts_changed(POLL_EVERY).await;
            }
        }
    }

    /// Writes last-used times to the store now and then. Never returns.
    pub async fn keep_last_used(&self, store: &SharedStore) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            self.flush_last_used(store).await;
        }
    }

    /// Writes the last-used times that the store does not have yet.
    pub async fn flush_last_used(&self, store: &SharedStore) {
        let Some(snapshot) = self.snapshot.load_full() else { return };
        let mut used = Vec::new();
        for known in snapshot.keys.values() {
            let seconds = known.last_used_s.swap(0, Ordering::Relaxed);
            if let (true, Ok(at)) = (seconds != 0, OffsetDateTime::from_unix_timestamp(seconds)) {
                used.push(KeyUse { key_id: known.account.key_id, at });
            }
        }
        if used.is_empty() {
            return;
        }
        if let Err(error) = store.touch_keys(&used).await {
            tracing::debug!(%error, "last-used times cannot be written now: {error}");
            let unwritten: HashMap<i64, i64> =
                used.iter().map(|key| (key.key_id, key.at.unix_timestamp())).collect();
            for known in snapshot.keys.values() {
                if let Some(seconds) = unwritten.get(&known.account.key_id) {
                    known.last_used_s.fetch_max(*seconds, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Known {
    fn is_live(&self, now: OffsetDateTime) -> bool {
        self.account.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// Notes that the key was used just now.
    pub fn touch(&self) {
        self.last_used_s.store(OffsetDateTime::now_utc().unix_timestamp(), Ordering::Relaxed);
    }

    /// The plan in force.
    pub fn plan(&self) -> &Plan {
        &self.project.plan
    }
}

impl Project {
    fn new(plan: Arc<Plan>) -> Self {
        Self { plan, seen: Mutex::default(), blocked_until: Mutex::default() }
    }

    /// The same project under another plan: what was charged stays, what was refused may pass now.
    fn under(&self, plan: Arc<Plan>) -> Self {
        let seen = *self.seen.lock().expect("nobody panics with the lock");
        Self { plan, seen: Mutex::new(seen), blocked_until: Mutex::default() }
    }

    /// Remembers what the stream said. Answers can overtake each other: the later moment wins.
    pub fn saw(&self, limit_state: LimitState) {
        let mut seen = self.seen.lock().expect("nobody panics with the lock");
        if seen.is_none_or(|seen| seen.limit_state.now_us <= limit_state.now_us) {
            *seen = Some(Seen { limit_state, at: Instant::now() });
        }
    }

    /// The best we know of the project now: the stream's last word, moved on by our clock; a full plan before that.
    pub fn limit_state(&self) -> LimitState {
        let seen = *self.seen.lock().expect("nobody panics with the lock");
        match seen {
            Some(Seen { limit_state, at }) => advance(limit_state, at.elapsed()),
            None => {
                let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
                LimitState { now_us: as_us(now), tat_us: 0, used: 0 }
            }
        }
    }

    /// Refuses unkeyed requests here until `until`: nothing of the project can pass before.
    pub fn block_until(&self, until: Instant) {
        let mut blocked = self.blocked_until.lock().expect("nobody panics with the lock");
        if blocked.is_none_or(|earlier| earlier < until) {
            *blocked = Some(until);
        }
    }

    /// How long from `now` nothing of the project can pass, if that is known.
    pub fn blocked_for(&self, now: Instant) -> Option<Duration> {
        let mut blocked = self.blocked_until.lock().expect("nobody panics with the lock");
        let left = (*blocked)?.checked_duration_since(now).filter(|left| !left.is_zero());
        if left.is_none() {
            *blocked = None;
        }
        left
    }
}

/// What a limit_state becomes when nothing happens for a while.
fn advance(limit_state: LimitState, by: Duration) -> LimitState {
    let now_us = limit_state.now_us + as_us(by);
    let same_month = month_of(now_us) == month_of(limit_state.now_us);
    LimitState { now_us, tat_us: limit_state.tat_us, used: if same_month { limit_state.used } else { 0 } }
}

fn as_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Arc<Plan> {
        Arc::new(Plan {
            name: "test".into(),
            requests_per_minute: 60,
            burst: 60,
            events_per_month: Some(100),
            events_per_batch: 10,
        })
    }

    #[test]
    fn a_standing_forgets_the_months_use_when_the_month_ends() {
        let december_31 = 1_798_761_599_000_000; // 2026-12-31T23:59:59Z
        let limit_state = LimitState { now_us: december_31, tat_us: 0, used: 70 };
        assert_eq!(advance(limit_state, Duration::from_millis(500)).used, 70);
        assert_eq!(advance(limit_state, Duration::from_millis(1_500)).used, 0);
    }

    #[test]
    fn a_rotated_key_opens_until_the_very_moment_its_overlap_ends() {
        const KEY: &str = "a-key-of-a-unit-test";
        let expires_at = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let account = Account {
            project: ProjectId(1),
            project_name: "shop".into(),
            key_id: 1,
            key_hash: hash_key(KEY),
            plan: plan(),
            expires_at: Some(expires_at),
            signing_secrets: Vec::new(),
        };
        let project = Arc::new(Project::new(plan()));
        let known = Arc::new(Known { account, project, last_used_s: Arc::default() });
        let accounts = Accounts::default();
        accounts.snapshot.store(Some(Arc::new(Snapshot { keys: HashMap::from([(hash_key(KEY), known)]) })));
        assert!(accounts.open(KEY, expires_at - Duration::from_nanos(1)).is_ok());
        assert_eq!(accounts.open(KEY, expires_at).map(|_| ()), Err(LookupError::UnknownKey));
    }

    #[test]
    fn an_older_answer_does_not_replace_a_newer_one() {
        let project = Project::new(plan());
        project.saw(LimitState { now_us: 2_000_000, tat_us: 9, used: 2 });
        project.saw(LimitState { now_us: 1_000_000, tat_us: 8, used: 1 });
        assert_eq!(project.limit_state().used, 2);
    }

    #[test]
    fn a_block_ends_at_its_moment_and_with_the_plan() {
        let project = Project::new(plan());
        let now = Instant::now();
        let second = Duration::from_secs(1);
        project.block_until(now + second);
        assert_eq!(project.blocked_for(now), Some(second));
        assert_eq!(project.under(plan()).blocked_for(now), None);
        assert_eq!(project.blocked_for(now + second), None);
        assert_eq!(project.blocked_for(now), None, "an ended block is forgotten");
    }
}
