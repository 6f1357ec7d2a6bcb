//! The newest timeline that this process has seen.
//!
//! An old primary that returns after a failover takes writes, and what it stores is lost. Nothing in its own
//! database says so. A process that has met the new primary can tell, by the lower timeline. This module must
//! never refuse a server that does not name its timeline, or another database.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::error::{CONNECTION, Failure};

/// One text, or NULL on a standby: the number of the timeline, in hexadecimal.
pub(super) const TIMELINE: &str = "CASE WHEN pg_is_in_recovery() THEN NULL
    ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";
/// Of a server that an operator put back on purpose, the process cannot know.
const REPLACED: &str = "this PostgreSQL is an old primary: its timeline is older than one that this process has \
                        seen. Stop it, or make it a standby of the new primary; after a restore, restart this process";

/// A database has the same identifier on all its servers; a timeline is counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct History {
    database: i64,
    timeline: u32,
}

/// Shared by all connections of a store.
#[derive(Default, Debug)]
pub(super) struct Lineage {
    newest: Mutex<Option<History>>,
}

impl Lineage {
    fn newest(&self) -> MutexGuard<'_, Option<History>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The timeline of the server of this connection. `None` when the server does not say.
    ///
    /// # Errors
    /// When this process has seen a newer timeline of the same database, and when the connection is lost.
    pub(super) async fn check(&self, client: &Client) -> Result<Option<u32>, Failure> {
        let question = format!("SELECT system_identifier, {TIMELINE} FROM pg_control_system()");
        let messages = match client.simple_query(&question).await {
            Ok(messages) => messages,
            // A service that hides its log has no old primaries that could be met.
            Err(error) if error.as_db_error().is_some() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(history) = messages.iter().find_map(history) else { return Ok(None) };
        self.observe(history)?;
        Ok(Some(history.timeline))
    }

    fn observe(&self, history: History) -> Result<(), Failure> {
        let mut newest = self.newest();
        if newest.is_some_and(|newest| is_newer(newest, history)) {
            return Err(Failure::new(CONNECTION, REPLACED));
        }
        *newest = Some(history);
        Ok(())
    }

    /// Refuses a connection that was made before this process has seen a newer timeline.
    ///
    /// # Errors
    /// When `timeline` is not the newest.
    pub(super) fn refuse_outdated(&self, timeline: Option<u32>) -> Result<(), Failure> {
        let newest = self.newest().map(|newest| newest.timeline);
        match (timeline, newest) {
            (Some(timeline), Some(newest)) if timeline < newest => Err(Failure::new(CONNECTION, REPLACED)),
            _ => Ok(()),
        }
    }
}

fn is_newer(newest: History, other: History) -> bool {
    newest.database == other.database && newest.timeline > other.timeline
}

fn history(message: &SimpleQueryMessage) -> Option<History> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some(History { database: row.get(0)?.parse().ok()?, timeline: timeline(row.get(1)?)? })
}

pub(super) fn timeline(hexadecimal: &str) -> Option<u32> {
    u32::from_str_radix(hexadecimal, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(database: i64, timeline: u32) -> History {
        History { database, timeline }
    }

    #[test]
    fn a_server_with_an_older_timeline_of_the_same_database_is_refused() {
        let lineage = Lineage::default();
        lineage.observe(history(7, 1)).unwrap();
        lineage.observe(history(7, 3)).unwrap();
        let refused = lineage.observe(history(7, 2)).unwrap_err();
        assert!(refused.message.contains("old primary"), "{refused:?}");
        lineage.observe(history(7, 3)).unwrap();
    }

    #[test]
    fn another_database_begins_its_own_history() {
        let lineage = Lineage::default();
        lineage.observe(history(7, 3)).unwrap();
        lineage.observe(history(8, 1)).unwrap();
        lineage.observe(history(8, 1)).unwrap();
    }

    #[test]
    fn a_connection_is_outdated_once_a_newer_timeline_was_seen() {
        let lineage = Lineage::default();
        lineage.refuse_outdated(Some(1)).unwrap();
        lineage.observe(history(7, 2)).unwrap();
        assert!(lineage.refuse_outdated(Some(1)).is_err());
        lineage.refuse_outdated(Some(2)).unwrap();
        lineage.refuse_outdated(None).unwrap();
    }

    #[test]
    fn the_timeline_is_the_first_eight_digits_of_a_log_file() {
        assert_eq!(timeline("0000000A"), Some(10));
        assert_eq!(timeline(""), None);
    }
}
