//! The state that all views of one file share: reading, delivery and writing.

use std::path::PathBuf;
use std::sync::Arc;

use super::counters::Counters;
use super::dispatch::Dispatch;
use super::memory_markers::MemoryMarkers;
use super::position::Position;
use super::read_pool::ReadPool;
use super::transaction::WriteTransaction;
use super::writer::{Shared, Writer};
use super::{error, load, schema};
use crate::StreamError;
use crate::metrics::counted;

/// The fields are dropped in this order: the writer, which holds the lock, after everything that has the file
/// open.
pub(super) struct Core {
    pub(super) reads: Arc<ReadPool>,
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) markers: Arc<MemoryMarkers>,
    /// `None` when the stream is open for reading only.
    writer: Option<Writer>,
}

impl Core {
    /// Opens the file for this process alone, and creates it when it is missing.
    pub(super) fn open(folder: PathBuf) -> Result<Self, StreamError> {
        let lock = schema::lock(&folder)?;
        let file = schema::open(&folder)?;
        let counters = Counters::load(&file).map_err(|error| error::classify(&error))?;
        let markers = Arc::new(MemoryMarkers::default());
        load::markers_of_entries(&file, &markers).map_err(|error| error::classify(&error))?;
        let dispatch = Arc::new(Dispatch::after(counters.shard.last));
        let shared = Shared { dispatch: Arc::clone(&dispatch), markers: Arc::clone(&markers) };
        let writer = Writer::start(file, counters, lock, shared)
            .map_err(|error| StreamError::Unavailable(format!("cannot start the writer thread: {error}")))?;
        Ok(Self { reads: ReadPool::new(folder), dispatch, markers, writer: Some(writer) })
    }

    pub(super) fn open_read_only(folder: PathBuf) -> Result<Self, StreamError> {
        schema::open_read_only(&folder)?;
        let dispatch = Arc::new(Dispatch::after(Position::default()));
        Ok(Self { reads: ReadPool::new(folder), dispatch, markers: Arc::default(), writer: None })
    }

    /// # Errors
    /// [`StreamError::Refused`], counted, when the stream is open for reading only.
    pub(super) fn writer(&self) -> Result<&Writer, StreamError> {
        let refused = || StreamError::Refused("the stream is open for reading only".to_owned());
        self.writer.as_ref().ok_or_else(|| counted(refused()))
    }

    /// Runs `work` in the next transaction, and returns its result once the transaction is on disk. `bytes`
    /// is about how much `work` writes.
    ///
    /// # Errors
    /// [`StreamError`], counted.
    pub(super) async fn write<T, W>(&self, bytes: usize, work: W) -> Result<T, StreamError>
    where
        T: Send + 'static,
        W: FnOnce(&mut WriteTransaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer()?.run(bytes, work).await.map_err(counted)
    }
}
