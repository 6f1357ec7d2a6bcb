//! The table that a subject stores events in, and the queries that measure it while it fills.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use testkit::Postgres;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::error::BenchError;
use crate::process::Process;

/// Readers of a database in WAL mode do not wait for writers, so this is not expected to pass.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const SETTLED: &str = "SELECT coalesce(sum(events + duplicates + dead), 0) FROM usage_hourly";

#[derive(Debug)]
pub enum EventsTable {
    Postgres(Box<PostgresTable>),
    Sqlite(SqliteTable),
}

#[derive(Debug)]
pub struct PostgresTable {
    client: Client,
    is_visible: Statement,
    settled: Statement,
    project: i64,
    server: Postgres,
}

#[derive(Debug)]
pub struct SqliteTable {
    reader: Mutex<Connection>,
    /// Removes the folder when the table is dropped.
    _folder: TempDir,
}

impl EventsTable {
    /// Takes over the server. Only events of `project` are looked up.
    pub(super) async fn postgres(server: Postgres, project: i64) -> Result<Self, BenchError> {
        Self::postgres_counted_by(server, project, SETTLED).await
    }

    /// As [`EventsTable::postgres`]. The query `settled` returns the number of events that a queued subject
    /// has finished with.
    pub(super) async fn postgres_counted_by(
        server: Postgres,
        project: i64,
        settled: &str,
    ) -> Result<Self, BenchError> {
        let client = server.connect().await;
        let is_visible = "SELECT EXISTS (SELECT FROM events WHERE project_id = $1 AND timestamp = $2::text::timestamptz AND event_id = $3)";
        let is_visible = client.prepare(is_visible).await?;
        let settled = client.prepare(&format!("SELECT ({settled})::bigint")).await?;
        Ok(Self::Postgres(Box::new(PostgresTable { client, is_visible, settled, project, server })))
    }

    /// Takes over the data folder of an embedded Millrace, and removes it when the table is dropped.
    pub(super) fn sqlite(folder: TempDir) -> Result<Self, BenchError> {
        let reader =
            Connection::open_with_flags(folder.path().join("events.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reader.busy_timeout(SQLITE_BUSY_TIMEOUT)?;
        Ok(Self::Sqlite(SqliteTable { reader: Mutex::new(reader), _folder: folder }))
    }

    /// The server process, if the store has one.
    pub fn process(&self) -> Option<Process> {
        match self {
            Self::Postgres(table) => Some(Process::new("postgres", table.server.pid())),
            Self::Sqlite(_) => None,
        }
    }

    /// Events that a queued subject has finished with, as its metering counts them: stored, duplicate or
    /// dead.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn settled(&self) -> Result<u64, BenchError> {
        let settled: i64 = match self {
            Self::Postgres(table) => table.client.query_one(&table.settled, &[]).await?.get(0),
            Self::Sqlite(table) => table.query(SETTLED, [])?,
        };
        Ok(settled.unsigned_abs())
    }

    /// Counts the rows.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn row_count(&self) -> Result<u64, BenchError> {
        const COUNT: &str = "SELECT count(*) FROM events";
        let rows: i64 = match self {
            Self::Postgres(table) => table.client.query_one(COUNT, &[]).await?.get(0),
            Self::Sqlite(table) => table.query(COUNT, [])?,
        };
        Ok(rows.unsigned_abs())
    }

    /// Whether the event can be read.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn is_visible(
        &self,
        event_id: Uuid,
        timestamp: &str,
        timestamp_us: i64,
    ) -> Result<bool, BenchError> {
        match self {
            Self::Postgres(table) => {
                let row = table
                    .client
                    .query_one(&table.is_visible, &[&table.project, &timestamp, &event_id])
                    .await?;
                Ok(row.get(0))
            }
            Self::Sqlite(table) => {
                const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM events WHERE project_id = 1 AND timestamp = ?1 AND event_id = ?2)";
                let found: i64 = table.query(EXISTS, (timestamp_us, event_id.as_bytes().as_slice()))?;
                Ok(found == 1)
            }
        }
    }

    /// Bytes written to the write-ahead log so far; `None` for SQLite.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn wal_bytes(&self) -> Result<Option<u64>, BenchError> {
        const WRITTEN: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
        match self {
            Self::Postgres(table) => {
                let written: i64 = table.client.query_one(WRITTEN, &[]).await?.get(0);
                Ok(Some(written.unsigned_abs()))
            }
            Self::Sqlite(_) => Ok(None),
        }
    }
}

impl SqliteTable {
    /// Blocks the calling thread; the queries are short.
    fn query(&self, statement: &str, parameters: impl rusqlite::Params) -> Result<i64, BenchError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = reader.prepare_cached(statement)?;
        Ok(statement.query_row(parameters, |row| row.get(0))?)
    }
}
