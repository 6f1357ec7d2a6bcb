//! What is looked at when somebody scrapes and not before: the process, pools, the files of a data directory.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::*;

/// Looks once more; false when there is nothing to look at any more.
type Sampler = Box<dyn Fn() -> bool + Send>;

static SAMPLERS: Mutex<Vec<Sampler>> = Mutex::new(Vec::new());

/// Has something looked at whenever somebody scrapes, until `look` returns false. It must take no time worth mentioning.
pub fn at_scrape(look: impl Fn() -> bool + Send + 'static) {
    SAMPLERS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(look));
}

/// Looks at everything.
pub fn sample() {
    sample_process();
    SAMPLERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|look| look());
}

/// A pool at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolUse {
    /// `postgres`, `redis` or `sqlite`.
    pub pool: &'static str,
    /// Connections it may have.
    pub max: usize,
    /// Lent to somebody.
    pub used: usize,
    /// Open and lent to nobody.
    pub idle: usize,
    /// Callers that wait for one; `None` where that is not known.
    pub waiting: Option<usize>,
    /// Connections that were replaced, ever; `None` where none can be lost.
    pub replaced: Option<u64>,
}

impl PoolUse {
    /// Records it.
    pub fn record(self) {
        let set = |gauge: Option<&Gauge>, to: usize| {
            if let Some(gauge) = gauge {
                gauge.set(to as f64);
            }
        };
        set(POOL_CONNECTIONS_MAX.of(&[self.pool]), self.max);
        set(POOL_CONNECTIONS.of(&[self.pool, "used"]), self.used);
        set(POOL_CONNECTIONS.of(&[self.pool, "idle"]), self.idle);
        if let Some(waiting) = self.waiting {
            set(POOL_WAITING.of(&[self.pool]), waiting);
        }
        if let (Some(counter), Some(replaced)) = (STORE_RECONNECTS.of(&["pool"]), self.replaced) {
            counter.absolute(replaced);
        }
    }
}

/// Has the files of a data directory looked at, and what is left on its disk.
pub fn watch_folder(folder: PathBuf) {
    at_scrape(move || {
        for name in ["stream.db", "stream.db-wal", "events.db", "events.db-wal"] {
            let bytes = std::fs::metadata(folder.join(name)).map_or(0, |file| file.len());
            if let Some(gauge) = FOLDER_FILE.of(&[name]) {
                gauge.set(bytes as f64);
            }
        }
        if let Ok(disk) = rustix::fs::statvfs(&folder) {
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize) as f64;
            if let (Some(free), Some(size)) = (FOLDER_FREE.only(), FOLDER_SIZE.only()) {
                free.set(bytes(disk.f_bavail));
                size.set(bytes(disk.f_blocks));
            }
        }
        true
    });
}

fn sample_process() {
    let found = metrics_process::collector::collect();
    if let (Some(counter), Some(seconds)) = (PROCESS_CPU.only(), found.cpu_seconds_total) {
        counter.absolute(seconds as u64);
    }
    let gauges = [
        (&PROCESS_RESIDENT, found.resident_memory_bytes),
        (&PROCESS_VIRTUAL, found.virtual_memory_bytes),
        (&PROCESS_OPEN_FDS, found.open_fds),
        (&PROCESS_MAX_FDS, found.max_fds),
        (&PROCESS_THREADS, found.threads),
        (&PROCESS_START, found.start_time_seconds),
    ];
    for (gauge, value) in gauges {
        if let (Some(gauge), Some(value)) = (gauge.only(), value) {
            gauge.set(value as f64);
        }
    }
}
