//! The thread that writes. It takes all requests that wait, runs them in one transaction, and answers them
//! when the transaction is on disk.
//!
//! There is no timer. While one transaction is synced, requests gather for the next one, so transactions grow
//! with the load, and a single request waits only for its own fsync. The thread must never answer before
//! COMMIT has returned, and never keep the counters of a transaction that failed.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::counters::Counters;
use super::dispatch::Dispatch;
use super::memory_markers::{ChangedMarkers, MarkerChanges, MemoryMarkers};
use super::position::Position;
use super::schema::Lock;
use super::transaction::WriteTransaction;
use super::{error, maintenance};
use crate::StreamError;
use millrace_event::entry::PackedEntry;

/// Capacity of the queue. A request that finds it full is refused: the disk is too slow for the load.
const QUEUE_MAX: usize = 16_384;
/// Requests in one transaction, at most, to bound how long the first of them waits.
const REQUESTS_MAX: usize = 512;
/// Packed bytes at which a transaction takes no more requests.
const BYTES_MAX: usize = 16 << 20;
/// Time without a request after which maintenance runs.
const IDLE: Duration = Duration::from_secs(1);
/// Longest wait for an answer. After it the outcome of the request is unknown.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// One request: its part in a transaction, and its answer afterwards.
trait Job: Send {
    fn run(&mut self, transaction: &mut WriteTransaction<'_>) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, committed: Result<(), StreamError>);
}

struct QueuedJob {
    bytes: usize,
    job: Box<dyn Job>,
}

/// What the thread tells others of its transactions.
pub(super) struct Shared {
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) markers: Arc<MemoryMarkers>,
}

/// The queue of the [`WriterThread`], which ends when this is dropped.
pub(super) struct Writer {
    queue: Option<SyncSender<QueuedJob>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        file: Connection,
        counters: Counters,
        lock: Lock,
        shared: Shared,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let writer = WriterThread { file, counters: Some(counters), shared, _lock: lock };
        let thread =
            std::thread::Builder::new().name("stream-writer".to_owned()).spawn(move || writer.run(&jobs))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Runs `work` in the next transaction, and returns its result once the transaction is on disk. `bytes`
    /// is about how much `work` writes.
    pub(super) async fn run<T, W>(&self, bytes: usize, work: W) -> Result<T, StreamError>
    where
        T: Send + 'static,
        W: FnOnce(&mut WriteTransaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(Request { work: Some(work), result: None, answer: sender });
        let queue = self.queue.as_ref().expect("taken only when dropped");
        let ended = || "the writer thread has ended".to_owned();
        queue.try_send(QueuedJob { bytes, job }).map_err(|error| match error {
            TrySendError::Full(_) => {
                StreamError::Unavailable(format!("{QUEUE_MAX} requests already wait for the disk"))
            }
            TrySendError::Disconnected(_) => StreamError::Unavailable(ended()),
        })?;
        match tokio::time::timeout(ANSWER_TIMEOUT, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StreamError::Unknown(ended())),
            Err(_) => Err(StreamError::Unknown(format!("the disk took longer than {ANSWER_TIMEOUT:?}"))),
        }
    }
}

impl Drop for Writer {
    /// Waits for the thread, which holds the lock of the folder: the next process to open it must find it
    /// free.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the writer thread of the stream panicked");
        }
    }
}

struct Request<T, W> {
    work: Option<W>,
    result: Option<T>,
    answer: oneshot::Sender<Result<T, StreamError>>,
}

impl<T, W> Job for Request<T, W>
where
    T: Send,
    W: FnOnce(&mut WriteTransaction<'_>) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, transaction: &mut WriteTransaction<'_>) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.result = Some(work(transaction)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StreamError>) {
        let Self { result, answer, .. } = *self;
        let result = committed.map(|()| result.expect("every job of a committed transaction has run"));
        // The caller may no longer wait. The transaction is committed all the same.
        drop(answer.send(result));
    }
}

struct WriterThread {
    file: Connection,
    /// `None` after an error, until they are loaded again.
    counters: Option<Counters>,
    shared: Shared,
    _lock: Lock,
}

impl WriterThread {
    fn run(mut self, queue: &Receiver<QueuedJob>) {
        while let Some(first) = self.next_job(queue) {
            let mut bytes = first.bytes;
            let mut jobs = vec![first.job];
            while jobs.len() < REQUESTS_MAX && bytes < BYTES_MAX {
                let Ok(next) = queue.try_recv() else { break };
                bytes += next.bytes;
                jobs.push(next.job);
            }
            let committed = self.run_transaction(&mut jobs);
            for job in jobs {
                job.answer(committed.clone());
            }
        }
    }

    /// Waits for the next job, and runs maintenance meanwhile. `None` when the [`Writer`] was dropped.
    fn next_job(&self, queue: &Receiver<QueuedJob>) -> Option<QueuedJob> {
        let mut timeout = Some(IDLE);
        while let Some(idle) = timeout {
            match queue.recv_timeout(idle) {
                Ok(first) => return Some(first),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => timeout = self.run_maintenance(),
            }
        }
        queue.recv().ok()
    }

    fn run_maintenance(&self) -> Option<Duration> {
        let now_ms = self.counters.as_ref()?.shard.now_us() / 1_000;
        maintenance::run(&self.file, now_ms).unwrap_or_else(|error| {
            // The only effect is that the file stays larger.
            tracing::debug!(%error, "the maintenance of the stream's file failed");
            None
        })
    }

    /// Commits all jobs or none.
    fn run_transaction(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StreamError> {
        // Taken out, so that none are left after an error.
        let mut counters = match self.counters.take() {
            Some(counters) => counters,
            None => Counters::load(&self.file).map_err(|error| error::classify(&error))?,
        };
        let Shared { dispatch, markers } = &self.shared;
        let changes = commit(&self.file, &mut counters, markers.begin(), jobs)?;
        let (last, now_ms) = (counters.shard.last, counters.shard.now_us() / 1_000);
        self.counters = Some(counters);
        markers.commit(changes.markers, now_ms);
        dispatch.committed(changes.appended, &changes.settled, last);
        Ok(())
    }
}

/// What a transaction that is on disk has changed.
struct Changes {
    markers: ChangedMarkers,
    appended: Vec<(Position, PackedEntry)>,
    settled: Vec<Position>,
}

fn commit(
    file: &Connection,
    counters: &mut Counters,
    markers: MarkerChanges<'_>,
    jobs: &mut [Box<dyn Job>],
) -> Result<Changes, StreamError> {
    let classify = |error: rusqlite::Error| error::classify(&error);
    let sqlite = Transaction::new_unchecked(file, TransactionBehavior::Immediate).map_err(classify)?;
    let (appended, settled) = (Vec::new(), Vec::new());
    let mut transaction = WriteTransaction { file, counters, group: None, markers, appended, settled };
    for job in jobs {
        job.run(&mut transaction).map_err(classify)?;
    }
    transaction.append_group().map_err(classify)?;
    let WriteTransaction { counters, markers, appended, settled, .. } = transaction;
    counters.write_changes(file).map_err(classify)?;
    sqlite.commit().map_err(|error| error::classify_commit(&error))?;
    Ok(Changes { markers: markers.into_changed(), appended, settled })
}
