//! The file: its tables, how it is opened, and when it is refused.
//!
//! This module must never overwrite a file that is damaged or that another program made: it may contain
//! acknowledged events that are nowhere else.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};

use super::error::{self, FILE};
use super::limits;
use crate::StreamError;

const LOCK: &str = "stream.lock";
/// "Mill": identifies the file as one of Millrace.
const APPLICATION_ID: i32 = 0x4D69_6C6C;
/// The version of the tables below.
const VERSION: i32 = 2;
/// The version of release 0.1: every entry is one batch.
const VERSION_1: i32 = 1;
/// Longest wait for another process that locks the file, such as an operator's `sqlite3`.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Pages (4 KiB each) of the write-ahead log at which they are copied into the file and the log starts again.
/// Copying costs two fsyncs, and most pages are written many times before it.
const LOG_PAGES_MAX: u32 = 16_000;
/// The page cache in KiB (SQLite expects a negative number), large enough to admit and settle without reading
/// the disk.
const CACHE_KIB: i32 = -32_768;

/// `shard` has one row. `batches` is the field `t` of an entry of version 2; the columns before it are then
/// those of its first batch, and sums. An entry without it is one batch. `charges` is the field `l`. The
/// marker of a pending batch has no `expires_ms`. A marker has a `digest` only if its batch has a key.
const TABLES: &str = "
    CREATE TABLE shard (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        epoch BLOB, fence BLOB,
        last_position INTEGER NOT NULL,
        backlog_entries INTEGER NOT NULL, backlog_events INTEGER NOT NULL, backlog_bytes INTEGER NOT NULL
    ) STRICT;
    INSERT INTO shard VALUES (0, NULL, NULL, 0, 0, 0, 0);
    CREATE TABLE projects (
        project INTEGER PRIMARY KEY,
        tat_us INTEGER NOT NULL, month INTEGER NOT NULL, used INTEGER NOT NULL,
        accepted INTEGER NOT NULL, pending INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE entries (
        position INTEGER PRIMARY KEY,
        batch_id BLOB NOT NULL CHECK (length(batch_id) = 16),
        project INTEGER NOT NULL, count INTEGER NOT NULL, rows_bytes INTEGER NOT NULL,
        attempts INTEGER NOT NULL, batches BLOB, data BLOB NOT NULL, charges BLOB
    ) STRICT;
    CREATE TABLE markers (
        batch_id BLOB PRIMARY KEY,
        project INTEGER NOT NULL, count INTEGER NOT NULL, received_ms INTEGER NOT NULL,
        keep_ms INTEGER NOT NULL, digest BLOB,
        expires_ms INTEGER, stored INTEGER, duplicate INTEGER, dead INTEGER, conflict INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX markers_expiring ON markers (expires_ms) WHERE expires_ms IS NOT NULL;
";

/// The exclusive use of the folder by this process.
pub(super) struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

/// Creates the folder, with access for its owner only, and locks it for this process.
pub(super) fn lock(folder: &Path) -> Result<Lock, StreamError> {
    let shown = folder.display();
    let cannot = |error: std::io::Error| {
        StreamError::Refused(format!("{shown} cannot be used as a folder for its files: {error}"))
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
    let path = folder.join(LOCK);
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(cannot)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut owner = String::new();
        // The process that holds the lock may not have written its number yet.
        file.read_to_string(&mut owner).ok();
        return Err(StreamError::Refused(format!(
            "{shown} is used by another process ({}): stop that process, or choose another folder",
            owner.trim()
        )));
    }
    // The number is only for the message above. A full disk must not prevent draining.
    let noted = file.set_len(0).and_then(|()| file.rewind());
    noted.and_then(|()| write!(file, "process {}", std::process::id())).ok();
    Ok(Lock(file))
}

/// Opens the file for the writer, and creates it when it is missing or empty.
pub(super) fn open(folder: &Path) -> Result<Connection, StreamError> {
    let path = folder.join(FILE);
    let is_new = is_empty(&path);
    if is_new && !is_empty(&folder.join(format!("{FILE}-wal"))) {
        return Err(StreamError::Refused(format!(
            "{} is missing or empty, but its write-ahead log {FILE}-wal is not. Restore the file, or move {FILE}-wal away",
            path.display()
        )));
    }
    let connection = Connection::open(&path).map_err(|error| {
        StreamError::Refused(format!(
            "{} cannot be opened: {error}; check who may read and write it",
            path.display()
        ))
    })?;
    if is_new {
        create(&connection, folder).map_err(|error| error::classify(&error))?;
    } else {
        check(&connection, &path, &[VERSION_1, VERSION])?;
        let checked = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        match checked {
            Ok(answer) if answer == "ok" => {}
            Ok(fault) => return Err(damaged(&path, &fault)),
            Err(error) => return Err(damaged(&path, &error.to_string())),
        }
        add_missing_columns(&connection).map_err(|error| error::classify(&error))?;
    }
    make_durable(&connection).map_err(|error| error::classify(&error))?;
    Ok(connection)
}

/// Opens the file for reading, in any process.
pub(super) fn open_read_only(folder: &Path) -> Result<Connection, StreamError> {
    let path = folder.join(FILE);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags)
        .map_err(|error| StreamError::Unavailable(format!("{}: {error}", path.display())))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| error::classify(&error))?;
    check(&connection, &path, &[VERSION])?;
    Ok(connection)
}

fn is_empty(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |metadata| metadata.len() == 0)
}

/// Creates all tables or none. Syncs the folders, so that the name of the file is on disk before any batch is
/// acknowledged.
fn create(connection: &Connection, folder: &Path) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         BEGIN IMMEDIATE; {TABLES} {limits}
         PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;",
        limits = limits::TABLE
    ))?;
    for folder in [Some(folder), folder.parent()].into_iter().flatten() {
        // Some file systems cannot sync a folder. Those do not need it.
        if let Ok(folder) = File::open(folder) {
            folder.sync_all().ok();
        }
    }
    Ok(())
}

/// Files of releases before have markers without `conflict`, entries without `batches` and `charges`, and no
/// counters of limits. A release that
/// does not know `batches` must not open the file any more.
fn add_missing_columns(connection: &Connection) -> rusqlite::Result<()> {
    let exists = |table: &str, column: &str| {
        let exists = "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2)";
        connection.query_row(exists, [table, column], |row| row.get::<_, bool>(0))
    };
    if !exists("markers", "conflict")? {
        connection.execute_batch("ALTER TABLE markers ADD COLUMN conflict INTEGER")?;
    }
    if !exists("entries", "charges")? {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; ALTER TABLE entries ADD COLUMN charges BLOB; {} COMMIT;",
            limits::TABLE
        ))?;
    }
    if !exists("entries", "batches")? {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; ALTER TABLE entries ADD COLUMN batches BLOB; PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
    }
    Ok(())
}

fn check(connection: &Connection, path: &Path, versions: &[i32]) -> Result<(), StreamError> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application_id, version) = match (number("application_id"), number("user_version")) {
        (Ok(application_id), Ok(version)) => (application_id, version),
        (Err(error), _) | (_, Err(error)) => return Err(damaged(path, &error.to_string())),
    };
    if application_id != APPLICATION_ID {
        return Err(damaged(path, "it is a database of another program"));
    }
    if version == VERSION_1 && !versions.contains(&version) {
        return Err(StreamError::Refused(format!(
            "{} is of an earlier release; start the service of this release once, which converts it",
            path.display()
        )));
    }
    if !versions.contains(&version) {
        return Err(damaged(path, &format!("its version is {version}, this program supports {VERSION}")));
    }
    Ok(())
}

fn damaged(path: &Path, fault: &str) -> StreamError {
    StreamError::Refused(format!(
        "{} is not a usable stream: {fault}. The file was not changed: restore it from a backup, or move it away \
         together with its -wal file to start with an empty stream",
        path.display()
    ))
}

/// Makes every commit return only after it is synced.
fn make_durable(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = {CACHE_KIB}; PRAGMA wal_autocheckpoint = {LOG_PAGES_MAX};"
    ))
}

/// Settings with which a commit can return before it is on disk.
pub(super) fn durability_faults(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut faults = Vec::new();
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode != "wal" {
        faults.push(format!("journal_mode is {mode:?}, not \"wal\""));
    }
    let synchronous: i32 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    if synchronous < 2 {
        faults.push(format!("synchronous is {synchronous}, not 2 (FULL)"));
    }
    Ok(faults)
}
