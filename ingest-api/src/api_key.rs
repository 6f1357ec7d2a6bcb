//! An API key as this process knows it: its account, its project, and when it was last used.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use millrace_event::plan::{Account, Plan};
use millrace_event::policy::KeyScope;
use time::OffsetDateTime;

use crate::project::Project;

/// An API key that was not revoked when it was read.
#[derive(Debug)]
pub struct ApiKey {
    pub account: Account,
    pub project: Arc<Project>,
    /// Seconds since 1970; 0 when the store has the time already. Shared by all readings of the key.
    last_used_s: Arc<AtomicI64>,
}

impl ApiKey {
    /// `known` is the same key as it was read before.
    pub fn new(account: Account, project: Arc<Project>, known: Option<&ApiKey>) -> Self {
        let last_used_s = known.map(|key| Arc::clone(&key.last_used_s)).unwrap_or_default();
        Self { account, project, last_used_s }
    }

    /// Whether the key can be used at this moment: a rotated key ends with its overlap.
    pub fn is_live(&self, now: OffsetDateTime) -> bool {
        self.account.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// Notes that the key was used just now.
    pub fn touch(&self) {
        self.last_used_s.store(OffsetDateTime::now_utc().unix_timestamp(), Ordering::Relaxed);
    }

    /// When the key was last used, in seconds since 1970. `None` when the store has the time already, as this
    /// then supposes.
    pub fn take_last_used_s(&self) -> Option<i64> {
        let seconds = self.last_used_s.swap(0, Ordering::Relaxed);
        (seconds != 0).then_some(seconds)
    }

    /// The store does not have this time.
    pub fn return_last_used_s(&self, seconds: i64) {
        self.last_used_s.fetch_max(seconds, Ordering::Relaxed);
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
