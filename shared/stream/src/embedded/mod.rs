//! The stream in a file of our own: one SQLite database in a data directory, for one process that is API and worker at once.
//!
//! | table of `stream.db` | what |
//! |---|---|
//! | `entries` | the admitted batches, in order; an entry's id is its row's number |
//! | `markers` | what is remembered of a batch id: while it is pending, and until `expires_ms` |
//! | `projects` | rate, quota and sums of each project |
//! | `shard` | one row: epoch and fence, the last entry there ever was, sums of the backlog |
//!
//! One thread writes (`writer.rs`): all that waits for it becomes one transaction, one fsync, and then many answers. Everybody
//! else reads, on connections of their own. Who was handed which entry is in memory (`deliveries.rs`): the lanes die with
//! the process, and whoever starts next reads every entry that is not settled. There is one shard.
//!
//! What this room must never do: answer before COMMIT has returned, keep a counter in memory that a failed transaction has
//! changed, overwrite a file that is not a whole stream of ours, or block a thread of the runtime with the disk.

mod admit;
mod books;
mod deliveries;
mod error;
mod fresh;
mod markers;
mod position;
mod reader;
mod reads;
mod rebuild;
mod schema;
mod settle;
mod tidy;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use tokio::sync::watch;

use self::books::Books;
use self::deliveries::Deliveries;
use self::fresh::Fresh;
use self::position::Position;
use self::reads::Reads;
use self::rebuild::Contents;
use self::writer::{Turn, Writer};
use crate::error::counted;
use crate::metrics;
use crate::{
    Admission, Backlog, BatchId, BatchState, Decision, EntryId, Epoch, PendingBatch, ProjectCounters, Reader,
    Settlement, Stream, StreamError,
};
use millrace_event::plan::{LimitState, ProjectId};

/// Entries settled in one transaction, so that no admission waits long for a lane that settles many.
const SETTLED_AT_ONCE_MAX: usize = 256;

/// Settings of an [`EmbeddedStream`].
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Where `stream.db` is, or will be. Made when it is not there.
    pub folder: PathBuf,
    /// Events that may wait.
    pub backlog_events_max: u64,
}

/// The stream in a file.
pub struct EmbeddedStream {
    core: Arc<Core>,
    backlog_events_max: u64,
    trusted: ArcSwapOption<Epoch>,
}

/// What all views of one file share. Fields are dropped in this order: the writer's lock last of all that has the file open.
struct Core {
    reads: Arc<Reads>,
    shared: Arc<Shared>,
    /// `None` for who only reads.
    writer: Option<Writer>,
}

/// What the writer and the lanes tell each other.
struct Shared {
    deliveries: Mutex<Deliveries>,
    fresh: Mutex<Fresh>,
    /// Whoever hands new entries out holds it meanwhile: two lanes at once would hand out the same.
    handing_out: Mutex<()>,
    /// The last entry on disk: what wakes a lane that has nothing to do.
    admitted: watch::Sender<Position>,
}

impl Shared {
    fn new(last: Position) -> Arc<Self> {
        Arc::new(Self {
            deliveries: Mutex::default(),
            fresh: Mutex::new(Fresh::after(last)),
            handing_out: Mutex::default(),
            admitted: watch::Sender::new(last),
        })
    }

    fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().expect("nobody panics with the deliveries in hand")
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().expect("nobody panics with the fresh entries in hand")
    }

    fn handing_out(&self) -> MutexGuard<'_, ()> {
        self.handing_out.lock().expect("nobody panics while handing out")
    }
}

impl EmbeddedStream {
    /// Opens the stream in this folder, which then belongs to this process alone; makes it when there is none. The whole file
    /// is checked, so a large backlog takes a moment: to be called before anything is served.
    ///
    /// # Errors
    /// [`StreamError::Refused`] when another process has it, or what is there is not a whole stream of ours.
    pub fn open(options: EmbeddedOptions) -> Result<Arc<Self>, StreamError> {
        let EmbeddedOptions { folder, backlog_events_max } = options;
        let lock = schema::lock(&folder)?;
        let file = schema::open(&folder)?;
        let books = Books::read(&file).map_err(|error| error::harmless(&error))?;
        let shared = Shared::new(books.shard.last);
        let writer = Writer::start(file, books, lock, Arc::clone(&shared))
            .map_err(|error| StreamError::Unavailable(format!("no thread can be started: {error}")))?;
        let core = Core { reads: Reads::new(folder), shared, writer: Some(writer) };
        // A file of our own is there or this process is not.
        metrics::stream_connected(true);
        metrics::backlog_events_max(backlog_events_max);
        Ok(Self::view_of(Arc::new(core), backlog_events_max))
    }

    /// Opens the stream for reading, in any process, whether or not another one serves it. What would change it is refused.
    ///
    /// # Errors
    /// [`StreamError`] when there is none, or what is there is not a whole stream of ours.
    pub fn open_reader(folder: impl Into<PathBuf>) -> Result<Arc<Self>, StreamError> {
        let folder = folder.into();
        schema::open_read_only(&folder)?;
        let core = Core { reads: Reads::new(folder), shared: Shared::new(Position::default()), writer: None };
        Ok(Self::view_of(Arc::new(core), 0))
    }

    /// One more view of the same file in this process, with a limit and a trusted epoch of its own.
    pub fn another(&self, backlog_events_max: u64) -> Arc<Self> {
        Self::view_of(Arc::clone(&self.core), backlog_events_max)
    }

    fn view_of(core: Arc<Core>, backlog_events_max: u64) -> Arc<Self> {
        Arc::new(Self { core, backlog_events_max, trusted: ArcSwapOption::empty() })
    }

    fn trusted(&self) -> Option<Epoch> {
        self.trusted.load_full().map(|epoch| *epoch)
    }

    fn writer(&self) -> Result<&Writer, StreamError> {
        let refused = || StreamError::Refused("the stream was opened for reading only".to_owned());
        self.core.writer.as_ref().ok_or_else(|| counted(refused()))
    }

    /// Has something written, of so many bytes, and returns when it is on disk.
    async fn write<T, W>(&self, bytes: usize, work: W) -> Result<T, StreamError>
    where
        T: Send + 'static,
        W: FnOnce(&mut Turn<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer()?.ask(bytes, work).await.map_err(counted)
    }
}

fn only_shard(shard: u16) -> Result<(), StreamError> {
    match shard {
        0 => Ok(()),
        _ => Err(StreamError::Refused(format!("there is no shard {shard}, only 0"))),
    }
}

fn position_of(id: EntryId) -> Result<Position, StreamError> {
    Position::of(id).ok_or_else(|| StreamError::Refused(format!("no entry can have the id {id}")))
}

#[async_trait]
impl Stream for EmbeddedStream {
    fn shards(&self) -> u16 {
        1
    }

    async fn admit(&self, admission: &Admission<'_>) -> Result<Decision, StreamError> {
        self.writer()?;
        let Some(trusted) = self.trusted() else {
            return Ok(Decision::EpochChanged);
        };
        let request = admit::Request {
            packed: admission.packed.clone(),
            plan: admission.plan.clone(),
            digest: admission.digest,
            awaited: admission.awaited,
            trusted,
            backlog_events_max: self.backlog_events_max,
        };
        self.write(request.packed.data.len(), move |turn| request.decide(turn)).await
    }

    async fn batch_state(&self, _: ProjectId, batch_id: BatchId) -> Result<BatchState, StreamError> {
        self.core.reads.read(move |file| reads::batch_state(file, batch_id)).await
    }

    async fn limit_state(&self, project: ProjectId) -> Result<LimitState, StreamError> {
        self.core.reads.read(move |file| reads::limit_state(file, project)).await
    }

    async fn backlog(&self) -> Result<Backlog, StreamError> {
        self.core.reads.read(reads::backlog).await
    }

    async fn durability_faults(&self) -> Result<Vec<String>, StreamError> {
        self.write(0, |turn| schema::durability_faults(turn.file)).await
    }

    async fn reader(&self, shard: u16, consumer: &str) -> Result<Box<dyn Reader>, StreamError> {
        only_shard(shard)?;
        self.writer()?;
        Ok(Box::new(reader::EmbeddedReader::new(Arc::clone(&self.core), consumer)))
    }

    async fn settle(&self, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError> {
        only_shard(shard)?;
        self.writer()?;
        let trusted = self.trusted();
        let mut settled = 0;
        for chunk in settlements.chunks(SETTLED_AT_ONCE_MAX) {
            let chunk = chunk.to_vec();
            let done = self.write(0, move |turn| settle::settle(turn, &chunk, trusted)).await?;
            settled += done.ok_or_else(|| counted(StreamError::EpochChanged))?;
        }
        Ok(settled)
    }

    async fn note_attempt(&self, shard: u16, id: EntryId) -> Result<u32, StreamError> {
        only_shard(shard)?;
        let position = position_of(id)?;
        self.write(0, move |turn| settle::note_attempt(turn, position)).await
    }

    async fn forget_attempts(&self, shard: u16, id: EntryId) -> Result<(), StreamError> {
        only_shard(shard)?;
        let position = position_of(id)?;
        self.write(0, move |turn| settle::forget_attempts(turn, position)).await
    }

    async fn retire_consumers(&self, shard: u16, idle: Duration) -> Result<u64, StreamError> {
        only_shard(shard)?;
        Ok(self.core.shared.deliveries().retire(idle, None))
    }

    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StreamError> {
        only_shard(shard)?;
        self.core.reads.read(reads::epoch).await
    }

    fn trust_epoch(&self, shard: u16, epoch: Epoch) {
        if shard == 0 {
            self.trusted.store(Some(Arc::new(epoch)));
        }
    }

    async fn pending_batches(&self, shard: u16) -> Result<Vec<PendingBatch>, StreamError> {
        only_shard(shard)?;
        self.core.reads.read(reads::pending).await
    }

    async fn fence(&self, shard: u16, epoch: Epoch) -> Result<(), StreamError> {
        only_shard(shard)?;
        self.write(0, move |turn| {
            rebuild::fence(turn, epoch);
            Ok(())
        })
        .await
    }

    async fn rebuild(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[ProjectCounters],
        expected: &[PendingBatch],
    ) -> Result<bool, StreamError> {
        only_shard(shard)?;
        let (counters, contents) = (counters.to_vec(), Contents::of(expected));
        self.write(0, move |turn| rebuild::rebuild(turn, epoch, &counters, &contents)).await
    }

    async fn counters(&self, projects: &[ProjectId]) -> Result<Vec<ProjectCounters>, StreamError> {
        let projects = projects.to_vec();
        self.core.reads.read(move |file| reads::counters(file, &projects)).await
    }
}
