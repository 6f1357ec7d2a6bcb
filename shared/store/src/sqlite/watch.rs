//! Notices changes to keys, projects and plans that other processes make: a task that polls the number which
//! every such change increases.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::database::Database;
use crate::StoreError;

/// The longest time that a key stays usable after another process revoked it. A poll reads one row from
/// memory.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// The polling task. It ends when this is dropped.
pub(super) struct AccountsWatcher(JoinHandle<()>);

impl AccountsWatcher {
    /// Starts the task; must be called inside a runtime.
    pub(super) fn start(database: Arc<Database>, changed: Arc<Notify>) -> Self {
        Self(tokio::spawn(async move {
            // Changes before the first poll were missed, so it always notifies.
            let mut last = None;
            loop {
                // A failed poll is repeated. Callers also have a timeout.
                if let Ok(version) = database.read(version).await
                    && last.replace(version) != Some(version)
                {
                    notify(&changed);
                }
                tokio::time::sleep(POLL_EVERY).await;
            }
        }))
    }
}

impl Drop for AccountsWatcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Wakes all waiting callers and the next one: between two waits a caller reads the accounts.
pub(super) fn notify(changed: &Notify) {
    changed.notify_waiters();
    changed.notify_one();
}

fn version(connection: &Connection) -> Result<i64, StoreError> {
    let version = "SELECT version FROM accounts_version";
    Ok(connection.prepare_cached(version)?.query_row([], |row| row.get(0))?)
}
