//! The file and its connections: one that writes, used by one closure at a time in the order of the calls,
//! and a few that only read, each in a snapshot.
//!
//! Other processes may use the same file. SQLite separates them with locks and waits for them up to
//! [`LOCK_TIMEOUT`]. This module must never let SQLite block a thread of the runtime, or confirm a write
//! before the disk has it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use rusqlite::{Connection, Error, OpenFlags};
use tokio::sync::{Mutex, Semaphore};

use super::error::{self, FILE_NAME};
use millrace_telemetry::metrics::{PoolUse, at_scrape};

/// Concurrent reads, at most.
const READERS: usize = 4;
/// For the lock of another process.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Prepared statements kept for each connection.
const STATEMENTS: usize = 64;

/// Settings of a new file. Most events fit on a page of 8 KiB. Incremental vacuum lets upkeep return the
/// space of deleted rows to the disk.
const FOUNDATION: &str =
    "PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;";
/// A commit is on disk when it returns. A checkpoint runs every 32 MiB of WAL; the WAL file is truncated to
/// 64 MiB.
const WRITER: &str = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -65536;
    PRAGMA wal_autocheckpoint = 4096; PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY;";
const READER: &str = "PRAGMA query_only = ON; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY;";

/// Counts the files that this process has begun to create.
static CREATIONS: AtomicU64 = AtomicU64::new(0);

type IdleReaders = Arc<std::sync::Mutex<Vec<Connection>>>;

pub(super) struct Database {
    file: PathBuf,
    /// `None` after a failure: the next write opens a new connection.
    writer: Arc<Mutex<Option<Connection>>>,
    idle_readers: IdleReaders,
    reader_turns: Arc<Semaphore>,
}

impl Database {
    /// Opens the file in this folder, which must exist. Creates the file if it does not exist.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let file = folder.join(FILE_NAME);
        let writer = open_writer(&file)?;
        let (idle_readers, reader_turns) = (IdleReaders::default(), Arc::new(Semaphore::new(READERS)));
        report_pool(Arc::downgrade(&idle_readers), &reader_turns);
        Ok(Self { file, writer: Arc::new(Mutex::new(Some(writer))), idle_readers, reader_turns })
    }

    /// Creates the file with what `prepare` writes, unless there is one. It appears under its name only when
    /// it is complete, so no process ever finds a file without tables.
    pub(super) fn create<E: From<Error>>(
        folder: &Path,
        prepare: impl FnOnce(&mut Connection) -> Result<(), E>,
    ) -> Result<(), E> {
        let file = folder.join(FILE_NAME);
        if file.exists() {
            return Ok(());
        }
        let number = CREATIONS.fetch_add(1, Ordering::Relaxed);
        let unfinished = folder.join(format!("{FILE_NAME}.new-{}-{number}", std::process::id()));
        let created = write_new(&unfinished, prepare);
        if created.is_ok() {
            // Fails when another process was faster, whose file is as good.
            let linked = std::fs::hard_link(&unfinished, &file);
            if linked.is_err_and(|error| error.kind() != std::io::ErrorKind::AlreadyExists) {
                // Some file systems have no links.
                std::fs::rename(&unfinished, &file).map_err(|error| error::cannot_create(&error))?;
            }
        }
        // What a failure leaves is in the way of no process, and the next start has another number.
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut path = unfinished.clone().into_os_string();
            path.push(suffix);
            std::fs::remove_file(path).ok();
        }
        created
    }

    /// Runs a closure that writes, after the closures of earlier calls. It runs to its end even when this
    /// future is dropped. A transaction that it leaves open is rolled back.
    pub(super) async fn write<T, E>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let mut turn = Arc::clone(&self.writer).lock_owned().await;
        let file = self.file.clone();
        blocking(move || {
            let mut connection = match turn.take() {
                Some(connection) => connection,
                None => open_writer(&file)?,
            };
            let done = work(&mut connection)?;
            *turn = Some(connection);
            Ok(done)
        })
        .await
    }

    /// Runs a closure that reads, all of it from one snapshot.
    pub(super) async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let turns = Arc::clone(&self.reader_turns);
        let turn = turns.acquire_owned().await.expect("the semaphore is never closed");
        let (file, idle) = (self.file.clone(), Arc::clone(&self.idle_readers));
        blocking(move || {
            let reused = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match reused {
                Some(connection) => connection,
                None => open_reader(&file)?,
            };
            let snapshot = connection.unchecked_transaction()?;
            let done = work(&snapshot)?;
            snapshot.commit()?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(turn);
            Ok(done)
        })
        .await
    }
}

/// Records the metrics of the readers at every scrape, for as long as the file is open.
fn report_pool(idle: Weak<std::sync::Mutex<Vec<Connection>>>, turns: &Arc<Semaphore>) {
    let turns = Arc::clone(turns);
    at_scrape(move || {
        let Some(idle) = idle.upgrade() else { return false };
        let idle = idle.lock().unwrap_or_else(PoisonError::into_inner).len();
        let used = READERS - turns.available_permits();
        PoolUse { pool: "sqlite", max: READERS, used, idle, waiting: None }.record();
        true
    });
}

async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(lost) => match lost.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(error::stopping().into()),
        },
    }
}

fn write_new<E: From<Error>>(
    file: &Path,
    prepare: impl FnOnce(&mut Connection) -> Result<(), E>,
) -> Result<(), E> {
    let mut connection = open_writer(file)?;
    prepare(&mut connection)?;
    // Closing moves the write-ahead log into the file, and syncs it.
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

fn open_writer(file: &Path) -> Result<Connection, Error> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(LOCK_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let journal: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if journal != "wal" {
        // Only for a new file: SQLite would write, and wait for other writers, even if nothing changes.
        connection.execute_batch(FOUNDATION)?;
    }
    connection.execute_batch(WRITER)?;
    Ok(connection)
}

fn open_reader(file: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(LOCK_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch(READER)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_on_disk_when_it_returns_and_a_reader_cannot_write() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(FILE_NAME);
        // The second opening is as after a failure: settings of a connection are not kept in the file.
        for _ in 0..2 {
            let writer = open_writer(&file).expect("a connection");
            let setting = |name: &str| -> String {
                let value = writer
                    .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0));
                format!("{:?}", value.expect("a setting"))
            };
            assert_eq!(setting("journal_mode"), r#"Text("wal")"#);
            assert_eq!(setting("synchronous"), "Integer(2)");
            assert_eq!(setting("auto_vacuum"), "Integer(2)");
            assert_eq!(setting("page_size"), "Integer(8192)");
        }
        let reader = open_reader(&file).expect("a connection");
        reader.execute_batch("CREATE TABLE t (c)").expect_err("a reader");
    }
}
