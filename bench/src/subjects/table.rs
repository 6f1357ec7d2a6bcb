//! The table in which events end, wherever it is, and what is asked of it while it fills.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use testkit::Postgres;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::failure::Failure;
use crate::figures::process::Process;

/// A reader waits this long for a lock, which in a write-ahead log it never has to.
const SQLITE_PATIENCE: Duration = Duration::from_secs(5);
const SETTLED: &str = "SELECT coalesce(sum(events + duplicates + dead), 0) FROM usage_hourly";

/// The table.
#[derive(Debug)]
pub enum Table {
    /// In PostgreSQL.
    Postgres(Box<InPostgres>),
    /// In one SQLite file.
    Sqlite(InSqlite),
}

/// See [`Table::Postgres`].
#[derive(Debug)]
pub struct InPostgres {
    client: Client,
    is_visible: Statement,
    settled: Statement,
    project: i64,
    server: Postgres,
}

/// See [`Table::Sqlite`].
#[derive(Debug)]
pub struct InSqlite {
    reader: Mutex<Connection>,
    /// Removed with the table.
    _folder: TempDir,
}

impl Table {
    /// That of a server, for the events of this project.
    pub(super) async fn postgres(server: Postgres, project: i64) -> Result<Self, Failure> {
        let client = server.connect().await;
        let is_visible = "SELECT EXISTS (SELECT FROM events WHERE project_id = $1 AND timestamp = $2::text::timestamptz AND event_id = $3)";
        let is_visible = client.prepare(is_visible).await?;
        let settled = client.prepare(&format!("SELECT ({SETTLED})::bigint")).await?;
        Ok(Self::Postgres(Box::new(InPostgres { client, is_visible, settled, project, server })))
    }

    /// That of a folder, which is removed with it.
    pub(super) fn sqlite(folder: TempDir) -> Result<Self, Failure> {
        let reader =
            Connection::open_with_flags(folder.path().join("events.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reader.busy_timeout(SQLITE_PATIENCE)?;
        Ok(Self::Sqlite(InSqlite { reader: Mutex::new(reader), _folder: folder }))
    }

    /// The server it is in, when there is one.
    pub fn process(&self) -> Option<Process> {
        match self {
            Self::Postgres(table) => Some(Process::new("postgres", table.server.pid())),
            Self::Sqlite(_) => None,
        }
    }

    /// Events that were taken from the stream for good, as the metering counts them: stored, duplicate or dead.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn settled(&self) -> Result<u64, Failure> {
        let settled: i64 = match self {
            Self::Postgres(table) => table.client.query_one(&table.settled, &[]).await?.get(0),
            Self::Sqlite(table) => table.ask(SETTLED, [])?,
        };
        Ok(settled.unsigned_abs())
    }

    /// Rows, counted one by one.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn rows(&self) -> Result<u64, Failure> {
        const COUNT: &str = "SELECT count(*) FROM events";
        let rows: i64 = match self {
            Self::Postgres(table) => table.client.query_one(COUNT, &[]).await?.get(0),
            Self::Sqlite(table) => table.ask(COUNT, [])?,
        };
        Ok(rows.unsigned_abs())
    }

    /// Whether this event can be read.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn is_visible(
        &self,
        event_id: Uuid,
        timestamp: &str,
        timestamp_us: i64,
    ) -> Result<bool, Failure> {
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
                let found: i64 = table.ask(EXISTS, (timestamp_us, event_id.as_bytes().as_slice()))?;
                Ok(found == 1)
            }
        }
    }

    /// Bytes of the log of transactions written so far, when the store tells.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn log_bytes(&self) -> Result<Option<u64>, Failure> {
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

impl InSqlite {
    /// Short reads, on the thread that asks.
    fn ask(&self, statement: &str, parameters: impl rusqlite::Params) -> Result<i64, Failure> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = reader.prepare_cached(statement)?;
        Ok(statement.query_row(parameters, |row| row.get(0))?)
    }
}
