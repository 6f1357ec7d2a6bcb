//! The metrics of the stream.

use millrace_telemetry::metrics::Values;
use strum::VariantNames;

use crate::error::StreamError;

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
    STREAM_ERRORS: counter "millrace_stream_errors_total" { kind: Values::These(StreamError::VARIANTS) }
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

/// Counts an error under its kind and returns it. Call it once for each error that leaves this crate.
pub(crate) fn counted(error: StreamError) -> StreamError {
    STREAM_ERRORS.increment_with(&[(&error).into()], 1);
    error
}

/// Records the sizes that Redis reports. `None` leaves the gauge as it is.
pub(crate) fn redis_sizes(memory_bytes: Option<u64>, memory_max_bytes: Option<u64>, aof_bytes: Option<u64>) {
    for (gauge, bytes) in
        [(&REDIS_MEMORY, memory_bytes), (&REDIS_MEMORY_MAX, memory_max_bytes), (&REDIS_AOF, aof_bytes)]
    {
        if let Some(bytes) = bytes {
            gauge.set(bytes as f64);
        }
    }
}

/// Counts entries that were taken over, and pending entries that are no longer in the stream.
pub fn taken_over(entries: usize, vanished: usize) {
    TAKEN_OVER_ENTRIES.increment(entries as u64);
    VANISHED_ENTRIES.increment(vanished as u64);
}
