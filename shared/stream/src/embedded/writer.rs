//! The one thread that writes. It takes whatever waits, does it all in one transaction, and answers when that is on disk.
//!
//! There is no linger timer: while one transaction is synced the next one gathers, so groups grow with the load and a lone
//! caller waits for its own fsync alone. Never answer before COMMIT has returned, and never keep counters of a
//! transaction that failed.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::books::Books;
use super::position::Position;
use super::schema::Lock;
use super::{Shared, error, tidy};
use crate::StreamError;
use millrace_event::entry::PackedBatch;

/// Requests that may wait for the writer. More are refused at once: the disk does not keep up.
const QUEUE_MAX: usize = 16_384;
/// Requests in one transaction, so that nobody waits long for his neighbours.
const GROUP_MAX: usize = 512;
/// PackedBatch bytes with which a transaction is full.
const GROUP_BYTES_MAX: usize = 16 << 20;
/// Silence after which the file is tidied.
const IDLE: Duration = Duration::from_secs(1);
/// The longest wait for an answer. A disk that takes longer is taken for broken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// One transaction under way.
pub(super) struct Turn<'a> {
    /// The file.
    pub(super) file: &'a Connection,
    /// Its counters.
    pub(super) books: &'a mut Books,
    /// Entries that come into the stream with this transaction.
    pub(super) appended: Vec<(Position, PackedBatch)>,
    /// Entries that leave the stream with this transaction.
    pub(super) settled: Vec<Position>,
}

/// A request's part in a transaction, and its answer afterwards.
trait Job: Send {
    fn work(&mut self, turn: &mut Turn<'_>) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, ended: Result<(), StreamError>);
}

struct Queued {
    bytes: usize,
    job: Box<dyn Job>,
}

/// The way to the writing thread, which ends with it.
pub(super) struct Writer {
    queue: Option<SyncSender<Queued>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        file: Connection,
        books: Books,
        lock: Lock,
        shared: Arc<Shared>,
    ) -> std::io::Result<Self> {
        let (queue, inbox) = sync_channel(QUEUE_MAX);
        let desk = Desk { file, books: Some(books), shared, _lock: lock };
        let thread =
            std::thread::Builder::new().name("stream-writer".to_owned()).spawn(move || desk.serve(&inbox))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Has `work` done in the next transaction, and returns its result once that is on disk. `bytes` is what it will write.
    pub(super) async fn ask<T, W>(&self, bytes: usize, work: W) -> Result<T, StreamError>
    where
        T: Send + 'static,
        W: FnOnce(&mut Turn<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(Asked { work: Some(work), result: None, answer: sender });
        let queue = self.queue.as_ref().expect("taken only when dropped");
        queue.try_send(Queued { bytes, job }).map_err(|error| match error {
            TrySendError::Full(_) => {
                StreamError::Unavailable(format!("{QUEUE_MAX} requests wait for the disk already"))
            }
            TrySendError::Disconnected(_) => StreamError::Unavailable("the writer has ended".to_owned()),
        })?;
        match tokio::time::timeout(ANSWER_TIMEOUT, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StreamError::Unknown("the writer has ended".to_owned())),
            Err(_) => Err(StreamError::Unknown(format!("the disk took longer than {ANSWER_TIMEOUT:?}"))),
        }
    }
}

impl Drop for Writer {
    /// Waits for what is being written: the folder's lock goes with the thread, and whoever opens next must find it free.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the writer of the stream had panicked");
        }
    }
}

struct Asked<T, W> {
    work: Option<W>,
    result: Option<T>,
    answer: oneshot::Sender<Result<T, StreamError>>,
}

impl<T, W> Job for Asked<T, W>
where
    T: Send,
    W: FnOnce(&mut Turn<'_>) -> rusqlite::Result<T> + Send,
{
    fn work(&mut self, turn: &mut Turn<'_>) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.result = Some(work(turn)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, ended: Result<(), StreamError>) {
        let Self { result, answer, .. } = *self;
        let result = ended.map(|()| result.expect("a transaction ends well when all its work is done"));
        // Whoever asked may have gone away; what was done stays done.
        drop(answer.send(result));
    }
}

/// Where the writing thread sits.
struct Desk {
    file: Connection,
    /// `None` after a failure, until they are read again.
    books: Option<Books>,
    shared: Arc<Shared>,
    _lock: Lock,
}

impl Desk {
    fn serve(mut self, inbox: &Receiver<Queued>) {
        while let Some(first) = self.wait(inbox) {
            let mut bytes = first.bytes;
            let mut jobs = vec![first.job];
            while jobs.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
                let Ok(next) = inbox.try_recv() else { break };
                bytes += next.bytes;
                jobs.push(next.job);
            }
            let ended = self.transact(&mut jobs);
            for job in jobs {
                job.answer(ended.clone());
            }
        }
    }

    /// The next request; tidies up when none comes for a while. `None` when nobody is left to make one.
    fn wait(&self, inbox: &Receiver<Queued>) -> Option<Queued> {
        let mut patience = Some(IDLE);
        while let Some(idle) = patience {
            match inbox.recv_timeout(idle) {
                Ok(first) => return Some(first),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => patience = self.tidy(),
            }
        }
        inbox.recv().ok()
    }

    fn tidy(&self) -> Option<Duration> {
        let now_ms = self.books.as_ref()?.shard.now_us() / 1_000;
        tidy::tidy(&self.file, now_ms).unwrap_or_else(|error| {
            // It would only have made the file smaller.
            tracing::debug!(%error, "the stream's file was not tidied");
            None
        })
    }

    /// Does all of it or none.
    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StreamError> {
        // Taken out, so that a failure leaves none behind.
        let mut books = match self.books.take() {
            Some(books) => books,
            None => Books::read(&self.file).map_err(|error| error::harmless(&error))?,
        };
        let (appended, settled) = commit(&self.file, &mut books, jobs)?;
        let last = books.shard.last;
        self.books = Some(books);
        self.shared.deliveries().forget(&settled);
        if !appended.is_empty() {
            self.shared.fresh().add(appended);
            self.shared.admitted.send_replace(last);
        }
        Ok(())
    }
}

/// What a transaction has changed: entries that came, and entries that left.
type Changes = (Vec<(Position, PackedBatch)>, Vec<Position>);

fn commit(file: &Connection, books: &mut Books, jobs: &mut [Box<dyn Job>]) -> Result<Changes, StreamError> {
    let harmless = |error: rusqlite::Error| error::harmless(&error);
    let transaction = Transaction::new_unchecked(file, TransactionBehavior::Immediate).map_err(harmless)?;
    let mut turn = Turn { file, books, appended: Vec::new(), settled: Vec::new() };
    for job in jobs {
        job.work(&mut turn).map_err(harmless)?;
    }
    let (appended, settled) = (turn.appended, turn.settled);
    books.write(file).map_err(harmless)?;
    transaction.commit().map_err(|error| error::of_commit(&error))?;
    Ok((appended, settled))
}
