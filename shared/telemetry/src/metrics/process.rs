//! The metrics of every process: its build, its resources, its connection pools, and its data directory.

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
const STATES: &[&str] = &["used", "idle"];
/// The files of a data directory.
const FILES: &[&str] = &["stream.db", "stream.db-wal", "events.db", "events.db-wal"];

crate::metrics_table! {
Any on Either {
    BUILD_INFO: gauge "millrace_build_info" { version: Values::Built(VERSION), commit: Values::Built(COMMIT) }
        "Always 1; the labels contain the version and the commit"
    POOL_CONNECTIONS: gauge "millrace_pool_connections" { pool: Values::These(POOLS), state: Values::These(STATES) }
        "Connections of a pool, in use or idle"
    POOL_CONNECTIONS_MAX: gauge "millrace_pool_connections_max" { pool: Values::These(POOLS) }
        "Size limit of a pool"
    PROCESS_CPU: counter "process_cpu_seconds_total" {}
        "CPU time used, in whole seconds"
    PROCESS_RESIDENT: gauge "process_resident_memory_bytes" {}
        "Resident memory size"
    PROCESS_VIRTUAL: gauge "process_virtual_memory_bytes" {}
        "Virtual memory size"
    PROCESS_OPEN_FDS: gauge "process_open_fds" {}
        "Open file descriptors"
    PROCESS_MAX_FDS: gauge "process_max_fds" {}
        "Limit of open file descriptors"
    PROCESS_THREADS: gauge "process_threads" {}
        "Threads"
    PROCESS_START: gauge "process_start_time_seconds" {}
        "Start time of the process"
}
Any on Servers {
    POOL_WAITING: gauge "millrace_pool_waiting" { pool: Values::These(&["postgres", "redis"]) }
        "Callers waiting for a connection of a pool"
}
Any on Files {
    FOLDER_FILE: gauge "millrace_folder_file_bytes" { file: Values::These(FILES) }
        "Size of a file in the data directory"
    FOLDER_FREE: gauge "millrace_folder_free_bytes" {}
        "Free space on the file system of the data directory"
    FOLDER_SIZE: gauge "millrace_folder_size_bytes" {}
        "Size of the file system of the data directory"
}
}

/// Records which version and commit this process was built from.
pub(super) fn record_build() {
    BUILD_INFO.set_with(&[VERSION[0], COMMIT[0]], 1.0);
}

/// The connections of a pool at one moment, for [`at_scrape`].
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
    /// Callers that wait for a connection; `None` if the pool does not report them.
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

/// Measures the files of a data directory and the free space on its disk, before each scrape.
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

/// Records the values that are read only for a scrape: the process's resources, and every [`at_scrape`].
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
