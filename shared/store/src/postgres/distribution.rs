//! `events` on several machines: the extension Citus keeps the table in shards on worker nodes, by project.
//! Everything else (the ledger, usage, accounts, dead letters) stays on the coordinator, so a transaction is
//! still one transaction: Citus prepares it on the nodes, commits it on the coordinator, and then commits it
//! on the nodes.
//!
//! What differs from one PostgreSQL, and is therefore here:
//! - Some statements cannot be planned, so others take their place.
//! - A failed COPY has lost its SQLSTATE, and errors of nodes have lost the names of table and constraint.
//! - A transaction that only one node and the coordinator write is not atomic by itself, see
//!   [`use_two_phases`].
//! - Nodes take their snapshots one after the other, see [`WritersPause`].
//!
//! This module must never distribute a table that a writer changes together with another one.

use std::collections::BTreeMap;
use std::fmt::Write;

use futures_util::SinkExt;
use tokio_postgres::{Client, Error, Transaction};

use super::connector::Connector;
use super::copy::{Chunks, Instant};
use super::parameters::RowKeys;
use super::session::Session;
use crate::{JsonColumns, StoreError};
use millrace_event::row::COLUMNS;

const SETTINGS: &str = "SET lock_timeout = '60s'; SET statement_timeout = 0;";
const PAUSE_SETTINGS: &str = "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s';";
const DAY_US: i64 = 86_400_000_000;
const DAYS_PER_ERA: i64 = 146_097;

/// Whether `events` is distributed.
pub(super) async fn is_distributed(client: &Client) -> Result<bool, Error> {
    let has_catalog = "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL";
    if !client.query_one(has_catalog, &[]).await?.get::<_, bool>(0) {
        return Ok(false);
    }
    let is_listed = "SELECT count(*) > 0 FROM pg_dist_partition WHERE logicalrelid = to_regclass('events')";
    Ok(client.query_one(is_listed, &[]).await?.get(0))
}

/// Distributes `events` by project. Returns false when it was distributed before. Reads and moves all rows.
pub(super) async fn distribute(connector: &Connector) -> Result<bool, StoreError> {
    let session = Session::open(connector, SETTINGS).await?;
    let has_citus = "SELECT count(*) > 0 FROM pg_extension WHERE extname = 'citus'";
    if !session.query_one(has_citus, &[]).await?.get::<_, bool>(0) {
        return Err(StoreError::Invalid(
            "--distribute needs the extension citus in this database; install it, add the worker nodes, and run \
             `CREATE EXTENSION citus`"
                .to_owned(),
        ));
    }
    if is_distributed(&session).await? {
        return Ok(false);
    }
    // Shards of its own, that are not placed by another table of the database.
    let distribute = "SELECT create_distributed_table('events', 'project_id', colocate_with => 'none')";
    session.batch_execute(distribute).await?;
    Ok(true)
}

/// Whether a worker node could lose stored rows when its machine fails.
pub(super) async fn has_undurable_node(client: &Client) -> Result<bool, Error> {
    let nodes = "
        SELECT coalesce(bool_or(NOT success OR result <> '0'), false)
          FROM run_command_on_workers($$SELECT count(*) FROM pg_settings
                                         WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'$$)";
    Ok(client.query_one(nodes, &[]).await?.get(0))
}

/// Makes this transaction commit in two phases. Citus does that by itself only when a statement writes to
/// several nodes: it does not see that the coordinator's tables are written, too. A COPY always does it, also
/// one without rows.
pub(super) async fn use_two_phases(client: &Client) -> Result<(), Error> {
    let copy = client.prepare(&format!("COPY events ({COLUMNS}) FROM STDIN BINARY")).await?;
    let mut sink = Box::pin(client.copy_in(&copy).await?);
    let (nothing, _) = Chunks::new(JsonColumns::default()).finish();
    sink.send(nothing).await?;
    sink.as_mut().finish().await.map(drop)
}

/// One statement for each project that finds those of its keys that are stored: Citus sends it to the node of
/// the project, which finds key by key in the primary key. The keys are in the text, because Citus cannot
/// plan this with parameters. Columns: the index of the row, name, subject, properties.
pub(super) fn stored_events(keys: &RowKeys) -> String {
    let mut projects: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (at, project) in keys.projects.iter().enumerate() {
        projects.entry(*project).or_default().push(at);
    }
    let mut text = String::new();
    for (project, rows) in projects {
        let row = |at: &usize| {
            format!(
                "({}, timestamptz '{}', uuid '{}')",
                keys.indices[*at],
                time(keys.times[*at]),
                keys.ids[*at]
            )
        };
        let values = rows.iter().map(row).collect::<Vec<_>>().join(", ");
        let times = || rows.iter().map(|at| keys.times[*at]);
        let (first, last) = (times().min().map(time), times().max().map(time));
        let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
        let statement = write!(
            text,
            "SELECT k.at, stored.* FROM (VALUES {values}) k (at, timestamp, event_id),
                    LATERAL (SELECT e.name, e.subject, e.properties::text FROM events e
                              WHERE e.project_id = {project} AND e.timestamp = k.timestamp AND e.event_id = k.event_id
                                AND e.timestamp BETWEEN timestamptz '{first}' AND timestamptz '{last}'
                              LIMIT 1) stored;"
        );
        statement.expect("a string takes any text");
    }
    text
}

/// A time as PostgreSQL reads it, of any year: `2026-11-21 00:00:00.000000+00`.
fn time(moment: Instant) -> String {
    let (days, us) = (moment.0.div_euclid(DAY_US), moment.0.rem_euclid(DAY_US));
    // Howard Hinnant's civil_from_days, like month_of in plan.rs.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (year, suffix) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    let (s, us) = (us / 1_000_000, us % 1_000_000);
    let (hours, minutes, seconds) = (s / 3_600, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{us:06}+00{suffix}")
}

/// Makes waits for locks on the nodes as short as those on the coordinator.
pub(super) async fn limit_waits(transaction: &Transaction<'_>, lock_wait: &str) -> Result<(), Error> {
    let limit = format!(
        "SET LOCAL citus.propagate_set_commands = 'local'; SET LOCAL lock_timeout = '{lock_wait}';
         SET LOCAL citus.multi_shard_modify_mode = 'sequential'"
    );
    transaction.batch_execute(&limit).await
}

/// Moves the rows that `is_wanted` selects out of `events_default`, attaches their days, and stores the rows
/// there. One statement cannot do this here: rows that move lie with the coordinator meanwhile. Returns their
/// number.
pub(super) async fn move_rows(
    transaction: &Transaction<'_>,
    is_wanted: &str,
    attach: &str,
) -> Result<u64, Error> {
    let take = format!(
        "CREATE TEMP TABLE moved_events ON COMMIT DROP AS SELECT * FROM events_default WHERE {is_wanted}"
    );
    transaction.batch_execute(&take).await?;
    let removed = transaction.execute(&format!("DELETE FROM events_default WHERE {is_wanted}"), &[]).await?;
    transaction.batch_execute(attach).await?;
    transaction.execute("INSERT INTO events SELECT * FROM moved_events", &[]).await?;
    Ok(removed)
}

/// Removes up to about `rows_max` rows of the default partition that were received before this time, and
/// counts them as retired. Returns whether all are removed.
pub(super) async fn retire_default(
    client: &mut Client,
    before_us: i64,
    rows_max: i64,
) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    use_two_phases(transaction.client()).await?;
    let last = format!(
        "SELECT received_at FROM events_default WHERE received_at < $1 ORDER BY received_at OFFSET {rows_max} LIMIT 1"
    );
    let cut: Option<Instant> =
        transaction.query_opt(&last, &[&Instant(before_us)]).await?.map(|row| row.get(0));
    // Rows of one millisecond are removed together.
    let before = cut.map_or(Instant(before_us), |cut| Instant(cut.0 + 1));
    let delete = "DELETE FROM events_default WHERE received_at < $1 RETURNING project_id, received_at";
    let mut counts: BTreeMap<(i64, i32), i64> = BTreeMap::new();
    for row in transaction.query(delete, &[&before]).await? {
        let day = row.get::<_, Instant>(1).0.div_euclid(DAY_US);
        let day = i32::try_from(day).expect("times of receipt are within a million years");
        *counts.entry((row.get(0), day)).or_default() += 1;
    }
    for ((project, day), count) in counts {
        let add = "
            INSERT INTO retired AS r (project_id, what, day, count) VALUES ($1, 'events', date '1970-01-01' + $2::int, $3)
            ON CONFLICT (project_id, what, day) DO UPDATE SET count = r.count + excluded.count";
        transaction.execute(add, &[&project, &day, &count]).await?;
    }
    transaction.commit().await?;
    Ok(cut.is_none())
}

/// No writer commits while this exists. An audit takes its snapshots of the coordinator and of all nodes
/// meanwhile, which is a moment; it counts the rows afterwards.
pub(super) struct WritersPause(Session);

impl WritersPause {
    /// Waits for the transactions that are about to commit.
    pub(super) async fn begin(connector: &Connector) -> Result<Self, StoreError> {
        let session = Session::open(connector, PAUSE_SETTINGS).await?;
        // Every writer changes usage last, and retention changes `retired`. Locks are released after the
        // commit on the nodes.
        session.batch_execute("BEGIN; LOCK TABLE usage_hourly, retired IN SHARE MODE").await?;
        Ok(Self(session))
    }

    /// Fixes the snapshots of all nodes for a transaction that has its own already, and ends the pause.
    pub(super) async fn end(self, transaction: &Transaction<'_>) -> Result<(), Error> {
        // One connection to each node, because each has its own snapshot.
        transaction.batch_execute("SET LOCAL citus.max_adaptive_executor_pool_size = 1").await?;
        transaction.query("SELECT project_id FROM events LIMIT 1", &[]).await?;
        self.0.batch_execute("COMMIT").await
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn times_of_any_year_are_written_as_postgresql_reads_them() {
        for (us, text) in [
            (0, "1970-01-01 00:00:00.000000+00"),
            (1_795_219_200_000_001, "2026-11-21 00:00:00.000001+00"),
            (-1, "1969-12-31 23:59:59.999999+00"),
            (951_782_400_000_000, "2000-02-29 00:00:00.000000+00"),
            (-62_135_596_800_000_001, "0001-12-31 23:59:59.999999+00 BC"),
            (-210_866_803_200_000_000, "4714-11-24 00:00:00.000000+00 BC"),
            (253_402_300_800_000_000, "10000-01-01 00:00:00.000000+00"),
        ] {
            assert_eq!(time(Instant(us)), text);
        }
    }

    #[test]
    fn keys_are_looked_up_by_project() {
        let keys = RowKeys {
            indices: vec![3, 4, 5],
            projects: vec![7, 8, 7],
            times: vec![Instant(0), Instant(1), Instant(2)],
            ids: vec![Uuid::nil(); 3],
        };
        let text = stored_events(&keys);
        assert_eq!(text.matches("SELECT k.at").count(), 2, "{text}");
        assert!(
            text.contains("e.project_id = 7")
                && text.contains("(3, timestamptz '1970-01-01 00:00:00.000000+00'")
        );
        assert!(text.contains("BETWEEN timestamptz '1970-01-01 00:00:00.000000+00' AND timestamptz '1970-01-01 00:00:00.000002+00'"));
    }
}
