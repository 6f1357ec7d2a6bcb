//! Reading the file, beside the writer and in its way never: every read sees the last commit as it was when it began.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::Semaphore;

use super::books::{Project, Shard};
use super::position::Position;
use super::{error, markers, schema};
use crate::error::counted;
use crate::{Backlog, BatchId, BatchState, Epoch, PendingBatch, ProjectCounters, StreamError};
use millrace_event::entry::PackedBatch;
use millrace_event::plan::{LimitState, ProjectId};

/// Reads at once. A long one, such as a list of all that waits, must leave room for others.
const READS_MAX: usize = 4;

/// Connections that only read, opened when they are needed.
pub(super) struct Reads {
    folder: PathBuf,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Reads {
    /// Opens nothing yet.
    pub(super) fn new(folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { folder, slots: Arc::new(Semaphore::new(READS_MAX)), idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().expect("nobody panics with the connections in hand")
    }

    /// Reads on a thread where waiting for the disk stops nobody.
    pub(super) async fn read<T, W>(self: &Arc<Self>, work: W) -> Result<T, StreamError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("it is never closed");
        let reads = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let result = reads.read_now(work);
            drop(slot);
            result
        });
        reading.await.expect("no read panics").map_err(counted)
    }

    fn read_now<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StreamError> {
        let waiting = self.idle().pop();
        let connection = match waiting {
            Some(connection) => connection,
            None => schema::open_read_only(&self.folder)?,
        };
        // One moment for all the statements of one read. A connection that failed is not used again.
        let result = connection
            .unchecked_transaction()
            .and_then(|moment| work(&connection).and_then(|result| moment.commit().map(|()| result)));
        match result {
            Ok(result) => {
                self.idle().push(connection);
                Ok(result)
            }
            Err(error) => Err(error::harmless(&error)),
        }
    }
}

/// Entries behind this one, oldest first.
pub(super) fn entries_after(
    file: &Connection,
    after: Position,
    entries_max: usize,
) -> rusqlite::Result<Vec<(Position, PackedBatch)>> {
    let mut select = file.prepare_cached(
        "SELECT position, batch_id, project, count, rows_bytes, data FROM entries
         WHERE position > ?1 ORDER BY position LIMIT ?2",
    )?;
    select.query_map((after, entries_max), entry)?.collect()
}

/// The entry here, if it still is.
pub(super) fn entry_at(file: &Connection, position: Position) -> rusqlite::Result<Option<PackedBatch>> {
    let mut select = file.prepare_cached(
        "SELECT position, batch_id, project, count, rows_bytes, data FROM entries WHERE position = ?1",
    )?;
    Ok(select.query_row([position], entry).optional()?.map(|(_, packed)| packed))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<(Position, PackedBatch)> {
    let packed = PackedBatch {
        batch_id: BatchId::from_bytes(row.get(1)?),
        project: ProjectId(row.get(2)?),
        count: row.get(3)?,
        rows_bytes: row.get(4)?,
        data: Bytes::from(row.get::<_, Vec<u8>>(5)?),
    };
    Ok((row.get(0)?, packed))
}

/// See [`crate::Stream::pending_batches`].
pub(super) fn pending(file: &Connection) -> rusqlite::Result<Vec<PendingBatch>> {
    let mut select = file.prepare_cached(
        "SELECT position, batch_id, project, count, length(data) FROM entries ORDER BY position",
    )?;
    let batches = select.query_map([], |row| {
        Ok(PendingBatch {
            id: row.get::<_, Position>(0)?.id(),
            batch_id: BatchId::from_bytes(row.get(1)?),
            project: ProjectId(row.get(2)?),
            count: row.get(3)?,
            bytes: row.get(4)?,
        })
    })?;
    batches.collect()
}

/// See [`crate::Stream::backlog`].
pub(super) fn backlog(file: &Connection) -> rusqlite::Result<Backlog> {
    let shard = Shard::read(file)?;
    let mut select = file.prepare_cached("SELECT position FROM entries ORDER BY position LIMIT 1")?;
    let oldest: Option<Position> = select.query_row([], |row| row.get(0)).optional()?;
    let age_ms = |oldest: Position| (shard.now_us() / 1_000).saturating_sub(oldest.ms());
    Ok(Backlog {
        entries: shard.entries,
        events: shard.events,
        bytes: shard.bytes,
        oldest_age_ms: oldest.map_or(0, age_ms),
    })
}

/// See [`crate::Stream::batch_state`].
pub(super) fn batch_state(file: &Connection, batch_id: BatchId) -> rusqlite::Result<BatchState> {
    markers::state(file, batch_id, Shard::read(file)?.now_us() / 1_000)
}

/// See [`crate::Stream::limit_state`].
pub(super) fn limit_state(file: &Connection, project: ProjectId) -> rusqlite::Result<LimitState> {
    Ok(Project::read(file, project)?.limit_state(Shard::read(file)?.now_us()))
}

/// See [`crate::Stream::epoch`].
pub(super) fn epoch(file: &Connection) -> rusqlite::Result<Option<Epoch>> {
    Ok(Shard::read(file)?.epoch)
}

/// See [`crate::Stream::counters`].
pub(super) fn counters(file: &Connection, projects: &[ProjectId]) -> rusqlite::Result<Vec<ProjectCounters>> {
    let counters = projects.iter().map(|&project| {
        let Project { month, used, accepted, pending, .. } = Project::read(file, project)?;
        Ok(ProjectCounters { project, accepted, pending, month, used })
    });
    counters.collect()
}
