//! Metrics of the store.

use std::time::Duration;

use millrace_telemetry::metrics::Values;
use strum::VariantNames;

/// A phase of one lane's cycle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// Reading entries from the stream.
    Read,
    /// Writing them to the store, up to the commit.
    Copy,
    /// Waiting for the store's disk.
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
    EVENT_DAYS: gauge "millrace_event_partitions" {}
        "Days for which events has a partition"
    DEFAULT_ROWS: gauge "millrace_default_partition_rows" {}
        "Events in no day's partition, as PostgreSQL estimates"
    DAYS_ON_DEMAND: counter "millrace_partitions_on_demand_total" {}
        "Partitions of events made because events of their day arrived"
    DEFAULT_ROWS_MOVED: counter "millrace_default_partition_moved_rows_total" {}
        "Events moved from the default partition to their day"
}
Any on Either {
    STORE_RECONNECTS: counter "millrace_store_reconnects_total" { connection: Values::These(&["lane", "pool", "listener"]) }
        "New connections to the store after one was lost"
    STORE_CONNECT_FAILURES: counter "millrace_store_connect_failures_total" {}
        "Connections to the store that could not be made"
}
}

/// Counts a replaced connection. `connection` is one of the values of the metric's label.
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

pub fn stuck_sessions_terminated(sessions: u64) {
    ZOMBIES_TERMINATED.increment(sessions);
}

/// The days that have a partition, and the rows that are in none of them.
pub fn event_days(days: usize, default_rows: u64) {
    EVENT_DAYS.set(days as f64);
    DEFAULT_ROWS.set(default_rows as f64);
}

pub fn days_made_on_demand(days: u64, moved_rows: u64) {
    DAYS_ON_DEMAND.increment(days);
    DEFAULT_ROWS_MOVED.increment(moved_rows);
}
