//! The metrics of the store.

use std::time::Duration;

use millrace_telemetry::metrics::Values;
use strum::VariantNames;

/// A phase of one lane's cycle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// Reading entries from the stream.
    Read,
    /// Writing them into the store, up to the commit.
    Copy,
    /// Committing: waiting for the store's disk.
    Commit,
    /// Removing them from the stream.
    Settle,
}

millrace_telemetry::metrics_table! {
Worker on Either {
    LANE_PHASE_DURATION: latency "millrace_lane_phase_duration_seconds" { phase: Values::These(Phase::VARIANTS) }
        "Time of one lane in one phase of one transaction"
}
Worker on Servers {
    COPIED_ROWS: counter "millrace_copied_rows_total" {}
        "Rows written with COPY"
    COPIED_ROWS_MISMATCH: counter "millrace_copied_rows_mismatch_total" {}
        "Sentinel: COPYs that reported another number of rows than was sent"
    ZOMBIES_TERMINATED: counter "millrace_zombies_terminated_total" {}
        "Database sessions of workers terminated because they were stuck"
}
Any on Either {
    STORE_RECONNECTS: counter "millrace_store_reconnects_total" { connection: Values::These(&["lane", "pool", "listener"]) }
        "New connections to the store after one was lost"
    STORE_CONNECT_FAILURES: counter "millrace_store_connect_failures_total" {}
        "Connections to the store that could not be made"
}
}

/// A connection of this kind to the store was replaced.
pub fn store_reconnected(connection: &'static str) {
    STORE_RECONNECTS.increment_with(&[connection], 1);
}

pub fn store_connect_failed() {
    STORE_CONNECT_FAILURES.increment(1);
}

pub fn lane_phase(phase: Phase, took: Duration) {
    LANE_PHASE_DURATION.record_with(&[phase.into()], took.as_secs_f64());
}

pub fn rows_copied(sent: u64, reported: u64) {
    COPIED_ROWS.increment(reported);
    COPIED_ROWS_MISMATCH.increment(u64::from(sent != reported));
}

pub fn zombies_terminated(sessions: u64) {
    ZOMBIES_TERMINATED.increment(sessions);
}
