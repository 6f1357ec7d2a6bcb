//! Every metric of every program, in one table: name, kind, labels with all their values, where it comes from, and help.
//!
//! [`facts`] has one function for each fact, so that no name is spelled twice and no label is unbounded: a project or an
//! event name is never a label. [`series`] holds a handle for each series, made once, so that counting on the way of a batch is
//! one addition and looks nothing up. Counters are shown at 0 from the first scrape on: the first thing that is counted would
//! otherwise be lost on Prometheus, and a missing series be read as a good one.
//!
//! Each promise has a sentinel: a counter of violations that stays 0, beside a counter that grows when it is checked.
//! `docs/metrics.md` is this table for readers; a test holds the two together, and both against real processes.

mod facts;
mod sampled;
mod series;

use metrics::{Counter, Gauge, Histogram};

pub use self::facts::*;
pub use self::sampled::{PoolUse, at_scrape, sample, watch_folder};
pub use self::series::{Kind, Label, Metric, Place, Process, Values, install};

use self::series::Recorded;

const LATENCY_S: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
const AGE_S: &[f64] = &[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
const SIZES: &[f64] =
    &[1.0, 10.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0];

/// Every status that the API answers with.
const STATUSES: &[&str] =
    &["200", "202", "204", "400", "401", "404", "405", "408", "413", "415", "422", "429", "500", "503"];
/// Why a request was refused: the codes of the problem documents.
const PROBLEMS: &[&str] = &[
    "invalid_json",
    "invalid_encoding",
    "empty_batch",
    "invalid_parameter",
    "invalid_header",
    "unauthenticated",
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "payload_too_large",
    "too_many_events",
    "unsupported_media_type",
    "unsupported_encoding",
    "no_valid_event",
    "idempotency_conflict",
    "rate_limited",
    "quota_exceeded",
    "backlog_full",
    "stream_unavailable",
    "store_unavailable",
    "overloaded",
];
/// Why an event of a batch was refused: the codes of [`crate::event::Rejection`].
const REJECTIONS: &[&str] = &[
    "invalid_json",
    "invalid_event",
    "missing_field",
    "unknown_field",
    "duplicate_field",
    "invalid_type",
    "invalid_length",
    "invalid_string",
    "invalid_number",
    "invalid_timestamp",
    "too_deep",
];
const VERDICTS: &[&str] = &[
    "admitted",
    "repeated",
    "conflict",
    "backlog_full",
    "rate_limited",
    "quota_exceeded",
    "epoch_changed",
    "stream_full",
    "unavailable",
    "unknown",
    "refused",
];
const ERROR_KINDS: &[&str] = &["unavailable", "unknown", "full", "epoch_changed", "refused"];
const POOLS: &[&str] = &["postgres", "redis", "sqlite"];

const VERSION: &[&str] = &[env!("CARGO_PKG_VERSION")];
/// Set when the programs are built: `MILLRACE_COMMIT=$(git rev-parse --short HEAD) cargo build --release`.
const COMMIT: &[&str] = &[match option_env!("MILLRACE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
}];

/// The table as one list of statics, and the list of them all.
macro_rules! metrics {
    ($($process:ident on $place:ident {
        $($id:ident: $kind:ident $name:literal { $($label:ident: $values:expr),* } $help:literal)*
    })*) => {
        $($(static $id: metrics!(@handle $kind) = Recorded::new(Metric {
            name: $name,
            kind: metrics!(@kind $kind),
            labels: &[$(Label { name: stringify!($label), values: $values }),*],
            process: Process::$process,
            place: Place::$place,
            help: $help,
        });)*)*

        /// Every metric of every program.
        pub static METRICS: &[&Metric] = &[$($(&$id.metric),*),*];

        fn register_all(here: &[Process], routes: &[&'static str]) {
            $($($id.register(here, routes);)*)*
        }
    };
    (@handle counter) => { Recorded<Counter> };
    (@handle gauge) => { Recorded<Gauge> };
    (@handle $histogram:ident) => { Recorded<Histogram> };
    (@kind counter) => { Kind::Counter };
    (@kind gauge) => { Kind::Gauge };
    (@kind latency) => { Kind::Histogram(LATENCY_S) };
    (@kind age) => { Kind::Histogram(AGE_S) };
    (@kind sizes) => { Kind::Histogram(SIZES) };
}

metrics! {
Api on Either {
    HTTP_REQUESTS: counter "millrace_http_requests_total" { route: Values::Routes, status: Values::These(STATUSES) }
        "Requests answered"
    HTTP_REQUEST_DURATION: latency "millrace_http_request_duration_seconds" { route: Values::Routes }
        "From the request's head to its answer, but for what Prefer: wait has asked to wait"
    HTTP_REQUESTS_IN_FLIGHT: gauge "millrace_http_requests_in_flight" {}
        "Requests being answered now"
    HTTP_REQUESTS_ABANDONED: counter "millrace_http_requests_abandoned_total" {}
        "Requests that ended without an answer: the client left, or a defect"
    HTTP_REFUSALS: counter "millrace_http_refusals_total" { code: Values::These(PROBLEMS) }
        "Requests refused, by the code of the answer"
    HTTP_CONNECTIONS: gauge "millrace_http_connections" {}
        "Connections open"
    HTTP_CONNECTIONS_MAX: gauge "millrace_http_connections_max" {}
        "Connections that may be open"
    HTTP_CONNECTIONS_REFUSED: counter "millrace_http_connections_refused_total" {}
        "Connections closed at the connection limit"
    HTTP_BODY_BYTES: counter "millrace_http_body_bytes_total" {}
        "Bytes of request bodies received, before decompression"
    HTTP_BODY_BYTES_IN_FLIGHT: gauge "millrace_http_body_bytes_in_flight" {}
        "Bytes reserved for bodies being read"
    ADMISSIONS: counter "millrace_admissions_total" { verdict: Values::These(VERDICTS) }
        "Batches that reached admission"
    ADMISSION_DURATION: latency "millrace_admission_duration_seconds" {}
        "Round trip of one admission to the stream, until it is on disk"
    ADMITTED_EVENTS: counter "millrace_admitted_events_total" {}
        "Events answered 2xx for the first time"
    ADMITTED_BYTES: counter "millrace_admitted_bytes_total" {}
        "Bytes of admitted batches as they stand in the stream, packed"
    BATCH_EVENTS: sizes "millrace_batch_events" {}
        "Events in one admitted batch"
    REFUSED_EVENTS: counter "millrace_refused_events_total" { code: Values::These(REJECTIONS) }
        "Events refused by the validator"
    FLOOD_REFUSALS: counter "millrace_flood_refusals_total" {}
        "Requests over the rate limit refused without asking the stream"
    ACCOUNTS: gauge "millrace_accounts" {}
        "Live keys in the snapshot"
    ACCOUNTS_REFRESHES: counter "millrace_accounts_refreshes_total" { result: Values::These(&["ok", "failed"]) }
        "Refreshes of the accounts snapshot"
}
Worker on Either {
    LANES: gauge "millrace_lanes" {}
        "Lanes that are running"
    RESTARTS: counter "millrace_restarts_total" { task: Values::These(&["lane", "upkeep"]) }
        "Tasks begun anew after a defect ended them"
    LANE_PHASE_DURATION: latency "millrace_lane_phase_duration_seconds" { phase: Values::These(&["read", "copy", "commit", "settle"]) }
        "Time of one lane in one phase of one transaction"
    TRANSACTION_EVENTS: sizes "millrace_transaction_events" {}
        "Events in one transaction"
    FRESHNESS: age "millrace_freshness_seconds" {}
        "From admission to commit, for the oldest batch of each transaction"
    STORED_EVENTS: counter "millrace_stored_events_total" {}
        "Events stored"
    DUPLICATE_EVENTS: counter "millrace_duplicate_events_total" {}
        "Events that were stored before"
    DEAD_EVENTS: counter "millrace_dead_events_total" {}
        "Events dead-lettered"
    REDELIVERED_ENTRIES: counter "millrace_redelivered_entries_total" {}
        "Entries that the ledger knew already"
    SETTLED_ENTRIES: counter "millrace_settled_entries_total" {}
        "Entries removed from the stream after their commit"
    SETTLED_LATE_ENTRIES: counter "millrace_settled_late_entries_total" {}
        "Entries that another lane had settled first"
    WRITE_FAILURES: counter "millrace_write_failures_total" {}
        "Transactions that the environment stopped, retried since"
    TAKEN_OVER_ENTRIES: counter "millrace_taken_over_entries_total" {}
        "Entries taken over from silent consumers"
    VANISHED_ENTRIES: counter "millrace_vanished_entries_total" {}
        "Sentinel: pending entries that were deleted unread"
    BACKLOG_ENTRIES: gauge "millrace_backlog_entries" {}
        "Batches in the stream"
    BACKLOG_EVENTS: gauge "millrace_backlog_events" {}
        "Events in the stream"
    BACKLOG_BYTES: gauge "millrace_backlog_bytes" {}
        "Packed bytes in the stream"
    BACKLOG_OLDEST_AGE: gauge "millrace_backlog_oldest_age_seconds" {}
        "Age of the oldest entry; 0 when nothing waits"
    PARTITIONS_AHEAD: gauge "millrace_partitions_ahead" {}
        "Days from tomorrow on for which partitions exist; on files always 366"
    PARTITIONS_MADE: counter "millrace_partitions_made_total" {}
        "Partitions made"
    PARTITIONS_RETIRED: counter "millrace_partitions_retired_total" {}
        "Partitions dropped by retention"
    UPKEEP_LAST: gauge "millrace_upkeep_last_timestamp_seconds" {}
        "When a round of upkeep ended well"
    UPKEEP_FAILURES: counter "millrace_upkeep_failures_total" {}
        "Rounds of upkeep that failed"
    CONSERVATION_CHECKS: counter "millrace_conservation_checks_total" {}
        "Projects whose accepted and stored events were compared"
    CONSERVATION_VIOLATIONS: counter "millrace_conservation_violations_total" {}
        "Sentinel: comparisons that did not balance"
    CONSERVATION_FAILURES: counter "millrace_conservation_failures_total" {}
        "Comparisons that could not be made"
    CONSERVATION_LAST: gauge "millrace_conservation_last_timestamp_seconds" {}
        "When accepted and stored events were last compared"
    CONSERVATION_BROKEN: gauge "millrace_conservation_broken_projects" {}
        "Projects that did not balance when last compared"
    CONSERVATION_EVENTS: gauge "millrace_conservation_events" { part: Values::These(&["accepted", "stored", "duplicate", "dead", "pending"]) }
        "Events of all projects since ever, when last compared: accepted = stored + duplicate + dead + pending"
    QUOTA_PROJECTS: gauge "millrace_quota_projects" { used_percent: Values::These(&["80", "90", "100"]) }
        "Projects that have used at least so much of their month's events"
    REDRIVE_LAST: gauge "millrace_redrive_last_timestamp_seconds" {}
        "When dead letters were last driven again; 0 is never"
}
Worker on Servers {
    COPIED_ROWS: counter "millrace_copied_rows_total" {}
        "Rows sent through COPY"
    COPIED_ROWS_MISMATCH: counter "millrace_copied_rows_mismatch_total" {}
        "Sentinel: COPYs that reported another number of rows"
    ZOMBIES_TERMINATED: counter "millrace_zombies_terminated_total" {}
        "Own database sessions ended because they were stuck"
}
Any on Either {
    BUILD_INFO: gauge "millrace_build_info" { version: Values::Built(VERSION), commit: Values::Built(COMMIT) }
        "1, for its labels"
    STREAM_CONNECTED: gauge "millrace_stream_connected" {}
        "1 while the circuit to the stream is closed"
    STREAM_RECONNECTS: counter "millrace_stream_reconnects_total" {}
        "Connections to the stream made anew"
    STREAM_ERRORS: counter "millrace_stream_errors_total" { kind: Values::These(ERROR_KINDS) }
        "Calls to the stream that failed"
    STORE_RECONNECTS: counter "millrace_store_reconnects_total" { connection: Values::These(&["lane", "pool", "listener"]) }
        "Connections to the store made anew after one was lost"
    STORE_CONNECT_FAILURES: counter "millrace_store_connect_failures_total" {}
        "Connections to the store that could not be made"
    DURABILITY_STRICT: gauge "millrace_durability_strict" {}
        "1 while acknowledged means on disk, 0 while it does not"
    DURABILITY_CHECKS: counter "millrace_durability_checks_total" {}
        "Checks of the stream's durability"
    DURABILITY_FAULTS: counter "millrace_durability_faults_total" {}
        "Sentinel: checks that found the stream not durable"
    EPOCH_TRUSTED: gauge "millrace_epoch_trusted" {}
        "1 while the stream's epoch is the recorded one"
    EPOCH_REBUILDS: counter "millrace_epoch_rebuilds_total" {}
        "Shards whose counters were rebuilt from the ledger after their epoch was lost"
    BACKLOG_EVENTS_MAX: gauge "millrace_backlog_events_max" {}
        "Events that may wait in the stream; more are refused"
    POOL_CONNECTIONS: gauge "millrace_pool_connections" { pool: Values::These(POOLS), state: Values::These(&["used", "idle"]) }
        "Connections of a pool"
    POOL_CONNECTIONS_MAX: gauge "millrace_pool_connections_max" { pool: Values::These(POOLS) }
        "Connections that a pool may have"
    PROCESS_CPU: counter "process_cpu_seconds_total" {}
        "Processor time used, in whole seconds"
    PROCESS_RESIDENT: gauge "process_resident_memory_bytes" {}
        "Memory in use"
    PROCESS_VIRTUAL: gauge "process_virtual_memory_bytes" {}
        "Address space in use"
    PROCESS_OPEN_FDS: gauge "process_open_fds" {}
        "File descriptors open"
    PROCESS_MAX_FDS: gauge "process_max_fds" {}
        "File descriptors that may be open"
    PROCESS_THREADS: gauge "process_threads" {}
        "Threads"
    PROCESS_START: gauge "process_start_time_seconds" {}
        "When the process started, in seconds since 1970"
}
Any on Servers {
    POOL_WAITING: gauge "millrace_pool_waiting" { pool: Values::These(&["postgres", "redis"]) }
        "Callers that wait for a connection of a pool"
    REDIS_MEMORY: gauge "millrace_redis_memory_bytes" {}
        "Memory that Redis uses, at the last check of durability"
    REDIS_MEMORY_MAX: gauge "millrace_redis_memory_max_bytes" {}
        "Memory that Redis may use; 0 is no limit"
    REDIS_AOF: gauge "millrace_redis_aof_bytes" {}
        "Size of Redis' append-only file"
}
Any on Files {
    FOLDER_FILE: gauge "millrace_folder_file_bytes" { file: Values::These(&["stream.db", "stream.db-wal", "events.db", "events.db-wal"]) }
        "Size of a file of the data directory"
    FOLDER_FREE: gauge "millrace_folder_free_bytes" {}
        "Space left on the disk of the data directory"
    FOLDER_SIZE: gauge "millrace_folder_size_bytes" {}
        "Size of the disk of the data directory"
}
}
