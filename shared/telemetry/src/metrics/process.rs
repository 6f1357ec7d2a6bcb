//! The metrics of every process: its build, its resources, its pools, and the directory of its files.

use std::path::PathBuf;

use super::descriptor::Values;
use super::sampled::{at_scrape, read_samples};

const VERSION: &[&str] = &[env!("CARGO_PKG_VERSION")];
/// Set when the programs are built: `MILLRACE_COMMIT=$(git rev-parse --short HEAD) cargo build --release`.
const COMMIT: &[&str] = &[match option_env!("MILLRACE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
}];
const POOLS: &[&str] = &["postgres", "redis", "sqlite"];
/// The files of a data directory.
const FILES: &[&str] = &["stream.db", "stream.db-wal", "events.db", "events.db-wal"];

crate::metrics_table! {
Any on Either {
    BUILD_INFO: gauge "millrace_build_info" { version: Values::Built(VERSION), commit: Values::Built(COMMIT) }
        "Always 1; the labels name the version and the commit"
    POOL_CONNECTIONS: gauge "millrace_pool_connections" { pool: Values::These(POOLS), state: Values::These(&["used", "idle"]) }
        "Connections of a pool"
    POOL_CONNECTIONS_MAX: gauge "millrace_pool_connections_max" { pool: Values::These(POOLS) }
        "Largest number of connections of a pool"
    PROCESS_CPU: counter "process_cpu_seconds_total" {}
        "Processor time used, in whole seconds"
    PROCESS_RESIDENT: gauge "process_resident_memory_bytes" {}
        "Resident memory"
    PROCESS_VIRTUAL: gauge "process_virtual_memory_bytes" {}
        "Virtual memory"
    PROCESS_OPEN_FDS: gauge "process_open_fds" {}
        "Open file descriptors"
    PROCESS_MAX_FDS: gauge "process_max_fds" {}
        "Largest number of open file descriptors"
    PROCESS_THREADS: gauge "process_threads" {}
        "Threads"
    PROCESS_START: gauge "process_start_time_seconds" {}
        "Start of the process, in seconds since 1970"
}
Any on Servers {
    POOL_WAITING: gauge "millrace_pool_waiting" { pool: Values::These(&["postgres", "redis"]) }
        "Callers that wait for a connection of a pool"
}
Any on Files {
    FOLDER_FILE: gauge "millrace_folder_file_bytes" { file: Values::These(FILES) }
        "Size of a file in the data directory"
    FOLDER_FREE: gauge "millrace_folder_free_bytes" {}
        "Free space on the disk of the data directory"
    FOLDER_SIZE: gauge "millrace_folder_size_bytes" {}
        "Size of the disk of the data directory"
}
}

/// Records which version and commit this process was built from.
pub(super) fn record_build() {
    BUILD_INFO.set_with(&[VERSION[0], COMMIT[0]], 1.0);
}

/// The connections of a pool at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolUse {
    /// `postgres`, `redis` or `sqlite`.
    pub pool: &'static str,
    /// Connections the pool may have.
    pub max: usize,
    /// Connections in use.
    pub used: usize,
    /// Open connections that are not in use.
    pub idle: usize,
    /// Callers that wait for a connection; `None` where the pool does not tell.
    pub waiting: Option<usize>,
}

impl PoolUse {
    pub fn record(self) {
        POOL_CONNECTIONS_MAX.set_with(&[self.pool], self.max as f64);
        POOL_CONNECTIONS.set_with(&[self.pool, "used"], self.used as f64);
        POOL_CONNECTIONS.set_with(&[self.pool, "idle"], self.idle as f64);
        if let Some(waiting) = self.waiting {
            POOL_WAITING.set_with(&[self.pool], waiting as f64);
        }
    }
}

/// Reads the sizes of the files in a data directory, and the free space on its disk, before every scrape.
pub fn watch_folder(folder: PathBuf) {
    at_scrape(move || {
        for name in FILES {
            let bytes = std::fs::metadata(folder.join(name)).map_or(0, |file| file.len());
            FOLDER_FILE.set_with(&[name], bytes as f64);
        }
        if let Ok(disk) = rustix::fs::statvfs(&folder) {
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize) as f64;
            FOLDER_FREE.set(bytes(disk.f_bavail));
            FOLDER_SIZE.set(bytes(disk.f_blocks));
        }
        true
    });
}

/// Reads everything that is read only when a scrape asks for it.
pub fn sample() {
    let found = metrics_process::collector::collect();
    if let Some(seconds) = found.cpu_seconds_total {
        PROCESS_CPU.set_total(&[], seconds as u64);
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
        if let Some(value) = value {
            gauge.set(value as f64);
        }
    }
    read_samples();
}
