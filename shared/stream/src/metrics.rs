//! The metrics of the stream.

use millrace_telemetry::metrics::Values;

/// The kinds of [`crate::StreamError`].
const ERROR_KINDS: &[&str] = &["unavailable", "unknown", "full", "epoch_changed", "refused"];

millrace_telemetry::metrics_table! {
Worker on Either {
    TAKEN_OVER_ENTRIES: counter "millrace_taken_over_entries_total" {}
        "Entries taken over from consumers that stopped responding"
    VANISHED_ENTRIES: counter "millrace_vanished_entries_total" {}
        "Sentinel: pending entries that were deleted before they were read"
}
Any on Either {
    STREAM_CONNECTED: gauge "millrace_stream_connected" {}
        "1 while the stream is connected, 0 while the circuit breaker is open"
    STREAM_RECONNECTS: counter "millrace_stream_reconnects_total" {}
        "New connections to the stream after one was lost"
    STREAM_ERRORS: counter "millrace_stream_errors_total" { kind: Values::These(ERROR_KINDS) }
        "Calls to the stream that failed"
    BACKLOG_EVENTS_MAX: gauge "millrace_backlog_events_max" {}
        "Limit of events in the stream; above it posts are refused"
}
Any on Servers {
    REDIS_MEMORY: gauge "millrace_redis_memory_bytes" {}
        "Memory that Redis uses, at the last durability check"
    REDIS_MEMORY_MAX: gauge "millrace_redis_memory_max_bytes" {}
        "Memory limit of Redis; 0 means no limit"
    REDIS_AOF: gauge "millrace_redis_aof_bytes" {}
        "Size of the append-only file of Redis"
}
}

/// A call to the stream failed. `kind` is one of the kinds in the table.
pub fn stream_error(kind: &'static str) {
    STREAM_ERRORS.increment_with(&[kind], 1);
}

pub fn stream_connected(connected: bool) {
    STREAM_CONNECTED.set(f64::from(connected));
}

pub fn stream_reconnected() {
    STREAM_RECONNECTS.increment(1);
}

/// Sizes that Redis reports; `None` for one it did not report.
pub fn redis_size(memory_bytes: Option<u64>, memory_max_bytes: Option<u64>, aof_bytes: Option<u64>) {
    for (gauge, bytes) in
        [(&REDIS_MEMORY, memory_bytes), (&REDIS_MEMORY_MAX, memory_max_bytes), (&REDIS_AOF, aof_bytes)]
    {
        if let Some(bytes) = bytes {
            gauge.set(bytes as f64);
        }
    }
}

/// Entries were taken over from silent consumers; `vanished` of the pending entries were no longer in the stream.
pub fn taken_over(entries: usize, vanished: usize) {
    TAKEN_OVER_ENTRIES.increment(entries as u64);
    VANISHED_ENTRIES.increment(vanished as u64);
}

/// The limit of the backlog, over all shards.
pub fn backlog_events_max(events: u64) {
    BACKLOG_EVENTS_MAX.set(events as f64);
}
