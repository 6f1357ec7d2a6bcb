//! The standbys of the server, and the recorded timeline.
//!
//! A role without the rights of `pg_monitor` sees that there are connections for replication, and nothing of
//! them. This module must never count a receiver that cannot become a primary.

use tokio_postgres::{Client, Error};

use super::error::Failure;
use super::lineage;
use super::session::Session;
use crate::{ReplicationProgress, ServerState, Standbys, StoreError, WriteError};

/// Whether this role sees the standbys.
const MAY_SEE: &str = "pg_has_role('pg_read_all_stats', 'USAGE')";
/// Standbys of the whole server. Logical replication and copies of the log cannot be promoted.
const STANDBYS: &str = "
    pg_stat_replication AS standby
     WHERE state IN ('catchup', 'streaming') AND application_name NOT IN ('pg_receivewal', 'pg_basebackup')
       AND NOT EXISTS (SELECT FROM pg_replication_slots AS slot
                        WHERE slot.active_pid = standby.pid AND slot.slot_type = 'logical')";
const NOT_ALLOWED: &str = "SETTLE_AFTER=standby: the role of DATABASE_URL may not see the standbys; \
                           run GRANT pg_monitor TO that role, or set SETTLE_AFTER=commit";
const UNKNOWN_LOG: &str =
    "SETTLE_AFTER=standby: this PostgreSQL does not name its timeline; set SETTLE_AFTER=commit";

pub(super) async fn servers(client: &Client, timeline: Option<u32>) -> Result<ServerState, StoreError> {
    let question = format!(
        "SELECT (SELECT timeline FROM store_timeline), {MAY_SEE}, current_setting('synchronous_standby_names') <> '',
                (SELECT count(*) FROM {STANDBYS}),
                (SELECT count(*) FROM {STANDBYS} AND sync_state IN ('sync', 'quorum'))"
    );
    let row = client.query_one(&question, &[]).await?;
    let number = |column| u32::try_from(row.get::<_, i64>(column)).unwrap_or(u32::MAX);
    let standbys = Standbys { connected: number(3), synchronous: number(4) };
    Ok(ServerState {
        timeline,
        recorded: row.get::<_, Option<i64>>(0).and_then(|recorded| u32::try_from(recorded).ok()),
        standbys: row.get::<_, bool>(1).then_some(standbys),
        waits_for_standbys: row.get(2),
    })
}

/// Compare and set: of two processes that both read `old`, only one succeeds.
pub(super) async fn record(client: &Client, old: Option<u32>, new: u32) -> Result<bool, StoreError> {
    let new = i64::from(new);
    let changed = match old {
        None => {
            let first = "INSERT INTO store_timeline (timeline) VALUES ($1) ON CONFLICT DO NOTHING";
            client.execute(first, &[&new]).await?
        }
        Some(old) => {
            let next = "UPDATE store_timeline SET timeline = $1, changed_at = now() WHERE timeline = $2";
            client.execute(next, &[&new, &i64::from(old)]).await?
        }
    };
    Ok(changed == 1)
}

/// Everything that this session or an earlier one has committed is flushed here: a row becomes visible after
/// its commit was flushed, because every writer has `synchronous_commit` on.
pub(super) async fn progress(session: &Session, standbys: u16) -> Result<ReplicationProgress, WriteError> {
    let row = session.query_one(&progress_question(), &[&(i64::from(standbys.max(1)) - 1)]).await;
    let row = match row {
        Err(error) if is_hidden(&error) => return Err(Failure::new("0A000", UNKNOWN_LOG).into()),
        row => row?,
    };
    let timeline = row.get::<_, Option<&str>>(0).and_then(lineage::timeline);
    let timeline = timeline.ok_or_else(|| Failure::new("0A000", UNKNOWN_LOG))?;
    if !row.get::<_, bool>(1) {
        return Err(Failure::new("42501", NOT_ALLOWED).into());
    }
    let place = |column| row.get::<_, Option<i64>>(column).unwrap_or_default().unsigned_abs();
    Ok(ReplicationProgress { timeline, committed: place(2), replicated: place(3) })
}

fn progress_question() -> String {
    format!(
        "SELECT {}, {MAY_SEE}, (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint,
                (SELECT (flush_lsn - '0/0'::pg_lsn)::bigint FROM {STANDBYS} AND flush_lsn IS NOT NULL
                  ORDER BY flush_lsn DESC OFFSET $1 LIMIT 1)",
        lineage::TIMELINE
    )
}

/// The service does not offer these functions.
fn is_hidden(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code() == "0A000" || code.code() == "42883")
}
