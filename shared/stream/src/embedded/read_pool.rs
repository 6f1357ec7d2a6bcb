//! Connections that only read. They never block the writer: a read sees the last commit as it was when it
//! began.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{error, schema};
use crate::StreamError;
use crate::metrics::counted;

/// Concurrent reads. A long one, such as a list of all pending batches, leaves room for others.
const READS_MAX: usize = 4;

pub(super) struct ReadPool {
    folder: PathBuf,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl ReadPool {
    /// Connections are opened when they are needed.
    pub(super) fn new(folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { folder, slots: Arc::new(Semaphore::new(READS_MAX)), idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().expect("no thread panics while it holds the connections")
    }

    /// Reads on a thread that may block.
    ///
    /// # Errors
    /// [`StreamError`], counted.
    pub(super) async fn read<T, W>(self: &Arc<Self>, work: W) -> Result<T, StreamError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed");
        let pool = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let result = pool.read_blocking(work);
            drop(slot);
            result
        });
        reading.await.expect("no read panics").map_err(counted)
    }

    fn read_blocking<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StreamError> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_read_only(&self.folder)?,
        };
        // All statements of one read see the same commit. A connection that failed is not used again.
        let result = connection
            .unchecked_transaction()
            .and_then(|snapshot| work(&connection).and_then(|result| snapshot.commit().map(|()| result)));
        match result {
            Ok(result) => {
                self.idle().push(connection);
                Ok(result)
            }
            Err(error) => Err(error::classify(&error)),
        }
    }
}
