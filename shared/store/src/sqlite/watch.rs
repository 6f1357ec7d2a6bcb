//! Notices changes to keys, projects and plans: our own at once, those of other processes by looking at the number that
//! every change of accounts increases.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::database::Database;
use crate::StoreError;

/// Between two looks: how long a key that another process revoked may be used at most. A look reads one row from memory.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The watching task. It ends when this is dropped.
pub(super) struct Watch(JoinHandle<()>);

impl Watch {
    /// Starts the task; must be called inside a runtime.
    pub(super) fn start(database: Arc<Database>, changed: Arc<Notify>) -> Self {
        Self(tokio::spawn(async move {
            // Whatever changed before was not seen.
            let mut seen = None;
            loop {
                // A look that fails is repeated; whoever waits for it also has a timeout.
                if let Ok(version) = database.read(version).await
                    && seen.replace(version) != Some(version)
                {
                    tell(&changed);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Wakes everybody who waits, and whoever comes next: between two waits a caller is busy reading the accounts.
pub(super) fn tell(changed: &Notify) {
    changed.notify_waiters();
    changed.notify_one();
}

fn version(connection: &Connection) -> Result<i64, StoreError> {
    let version = "SELECT version FROM accounts_version";
    Ok(connection.prepare_cached(version)?.query_row([], |row| row.get(0))?)
}
