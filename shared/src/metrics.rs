//! Every metric: its name, help and buckets in one table, and one function for each fact, so that no name is spelled
//! twice and no label is unbounded. A project or an event name is never a label.
//!
//! Each promise has a sentinel: a counter of violations that stays 0, beside a counter that grows when it is checked.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::stream::{Backlog, Outcome};

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, with these upper bounds.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// `millrace_<what>_<unit>`, with `_total` on counters.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// For the reader of a dashboard.
    pub help: &'static str,
}

const LATENCY_S: Kind =
    Kind::Histogram(&[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]);
const AGE_S: Kind =
    Kind::Histogram(&[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0]);
const SIZES: Kind = Kind::Histogram(&[
    1.0, 10.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0,
]);

const fn metric(name: &'static str, kind: Kind, help: &'static str) -> Metric {
    Metric { name, kind, help }
}

/// Every metric of every program.
pub const METRICS: &[Metric] = &[
    metric("millrace_http_requests_total", Kind::Counter, "Requests answered, by route and status"),
    metric(
        "millrace_http_request_duration_seconds",
        LATENCY_S,
        "From the request's head to its answer, by route",
    ),
    metric("millrace_http_connections", Kind::Gauge, "Connections open"),
    metric(
        "millrace_http_connections_refused_total",
        Kind::Counter,
        "Connections closed at the connection limit",
    ),
    metric(
        "millrace_http_body_bytes_total",
        Kind::Counter,
        "Bytes of request bodies received, before decompression",
    ),
    metric("millrace_http_body_bytes_in_flight", Kind::Gauge, "Bytes reserved for bodies being read"),
    metric("millrace_admissions_total", Kind::Counter, "Batches that reached admission, by verdict"),
    metric("millrace_admitted_events_total", Kind::Counter, "Events answered 2xx for the first time"),
    metric("millrace_refused_events_total", Kind::Counter, "Events refused by the validator, by code"),
    metric(
        "millrace_flood_refusals_total",
        Kind::Counter,
        "Requests over the rate limit refused without asking the stream",
    ),
    metric("millrace_admission_duration_seconds", LATENCY_S, "Round trip of one admission to the stream"),
    metric("millrace_stream_errors_total", Kind::Counter, "Calls to the stream that failed, by kind"),
    metric("millrace_stream_connected", Kind::Gauge, "1 while the circuit to the stream is closed"),
    metric("millrace_stream_reconnects_total", Kind::Counter, "Connections to the stream made anew"),
    metric(
        "millrace_durability_strict",
        Kind::Gauge,
        "1 while acknowledged means on disk, 0 while it does not",
    ),
    metric(
        "millrace_durability_faults_total",
        Kind::Counter,
        "Sentinel: checks that found the stream not durable",
    ),
    metric("millrace_durability_checks_total", Kind::Counter, "Checks of the stream's durability"),
    metric("millrace_epoch_trusted", Kind::Gauge, "1 while the stream's epoch is the recorded one"),
    metric(
        "millrace_epoch_rebuilds_total",
        Kind::Counter,
        "Shards whose counters were rebuilt from the ledger",
    ),
    metric("millrace_accounts", Kind::Gauge, "Live keys in the snapshot"),
    metric(
        "millrace_accounts_refreshes_total",
        Kind::Counter,
        "Refreshes of the accounts snapshot, by result",
    ),
    metric("millrace_stored_events_total", Kind::Counter, "Events stored"),
    metric("millrace_duplicate_events_total", Kind::Counter, "Events that were stored before"),
    metric("millrace_dead_events_total", Kind::Counter, "Events dead-lettered"),
    metric("millrace_redelivered_entries_total", Kind::Counter, "Entries that the ledger knew already"),
    metric(
        "millrace_settled_entries_total",
        Kind::Counter,
        "Entries removed from the stream after their commit",
    ),
    metric(
        "millrace_settled_late_entries_total",
        Kind::Counter,
        "Entries that another lane had settled first",
    ),
    metric("millrace_transaction_events", SIZES, "Events in one transaction"),
    metric(
        "millrace_lane_phase_duration_seconds",
        LATENCY_S,
        "Time of one lane in one phase: read, write, settle",
    ),
    metric(
        "millrace_freshness_seconds",
        AGE_S,
        "From admission to commit, for the oldest batch of each transaction",
    ),
    metric(
        "millrace_write_failures_total",
        Kind::Counter,
        "Transactions that the environment stopped, retried since",
    ),
    metric("millrace_copied_rows_total", Kind::Counter, "Rows sent through COPY"),
    metric(
        "millrace_copied_rows_mismatch_total",
        Kind::Counter,
        "Sentinel: COPYs that reported another number of rows",
    ),
    metric("millrace_taken_over_entries_total", Kind::Counter, "Entries taken over from silent consumers"),
    metric(
        "millrace_vanished_entries_total",
        Kind::Counter,
        "Sentinel: pending entries that were deleted unread",
    ),
    metric("millrace_backlog_entries", Kind::Gauge, "Batches in the stream"),
    metric("millrace_backlog_events", Kind::Gauge, "Events in the stream"),
    metric("millrace_backlog_bytes", Kind::Gauge, "Packed bytes in the stream"),
    metric("millrace_backlog_oldest_age_seconds", Kind::Gauge, "Age of the oldest entry"),
    metric("millrace_partitions_days_ahead", Kind::Gauge, "Days from today for which partitions exist"),
    metric("millrace_partitions_made_total", Kind::Counter, "Partitions made"),
    metric("millrace_partitions_retired_total", Kind::Counter, "Partitions dropped by retention"),
    metric(
        "millrace_zombies_terminated_total",
        Kind::Counter,
        "Own database sessions ended because they were stuck",
    ),
    metric("millrace_upkeep_failures_total", Kind::Counter, "Rounds of upkeep that failed"),
    metric(
        "millrace_conservation_checks_total",
        Kind::Counter,
        "Projects whose accepted and stored events were compared",
    ),
    metric(
        "millrace_conservation_violations_total",
        Kind::Counter,
        "Sentinel: comparisons that did not balance",
    ),
];

/// The sentinels of ingest-api.
pub const API_SENTINELS: &[&str] = &["millrace_durability_faults_total"];

/// The sentinels of stream-worker.
pub const WORKER_SENTINELS: &[&str] = &[
    "millrace_durability_faults_total",
    "millrace_copied_rows_mismatch_total",
    "millrace_vanished_entries_total",
    "millrace_conservation_violations_total",
];

/// Installs the recorder of this process. Call once, before anything is counted.
///
/// # Errors
/// When a recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Kind::Histogram(bounds) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)?;
        }
    }
    let handle = builder.install_recorder()?;
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => describe_histogram!(metric.name, metric.help),
        }
    }
    Ok(handle)
}

/// Shows sentinels at 0 from the first scrape on, so that a missing series is never read as a good one.
pub fn show_sentinels(names: &[&'static str]) {
    for name in names {
        counter!(*name).increment(0);
    }
}

/// A request was answered. `route` is a template, never a path.
pub fn request_answered(route: &'static str, status: u16, took: Duration) {
    counter!("millrace_http_requests_total", "route" => route, "status" => status.to_string()).increment(1);
    histogram!("millrace_http_request_duration_seconds", "route" => route).record(took);
}

/// Connections open now.
pub fn connections(open: usize) {
    gauge!("millrace_http_connections").set(open as f64);
}

/// A connection was closed because too many are open.
pub fn connection_refused() {
    counter!("millrace_http_connections_refused_total").increment(1);
}

/// A body was received.
pub fn body_received(bytes: usize) {
    counter!("millrace_http_body_bytes_total").increment(bytes as u64);
}

/// Bytes reserved for bodies now.
pub fn body_bytes_in_flight(bytes: usize) {
    gauge!("millrace_http_body_bytes_in_flight").set(bytes as f64);
}

/// A batch reached admission. `verdict` is a constant.
pub fn admission(verdict: &'static str, took: Duration) {
    counter!("millrace_admissions_total", "verdict" => verdict).increment(1);
    histogram!("millrace_admission_duration_seconds").record(took);
}

/// Events were admitted for the first time.
pub fn events_admitted(count: u32) {
    counter!("millrace_admitted_events_total").increment(u64::from(count));
}

/// An event was refused by the validator.
pub fn event_refused(code: &'static str) {
    counter!("millrace_refused_events_total", "code" => code).increment(1);
}

/// A request was refused on the word of an earlier answer.
pub fn flood_refused() {
    counter!("millrace_flood_refusals_total").increment(1);
}

/// A call to the stream failed. `kind` is a constant.
pub fn stream_error(kind: &'static str) {
    counter!("millrace_stream_errors_total", "kind" => kind).increment(1);
}

/// Whether the circuit to the stream is closed.
pub fn stream_connected(connected: bool) {
    gauge!("millrace_stream_connected").set(f64::from(connected));
}

/// A connection to the stream was made anew.
pub fn stream_reconnected() {
    counter!("millrace_stream_reconnects_total").increment(1);
}

/// The stream's durability was checked.
pub fn durability_checked(strict: bool) {
    counter!("millrace_durability_checks_total").increment(1);
    counter!("millrace_durability_faults_total").increment(u64::from(!strict));
    gauge!("millrace_durability_strict").set(f64::from(strict));
}

/// Whether the stream's epoch is trusted.
pub fn epoch_trusted(trusted: bool) {
    gauge!("millrace_epoch_trusted").set(f64::from(trusted));
}

/// A shard was rebuilt.
pub fn epoch_rebuilt() {
    counter!("millrace_epoch_rebuilds_total").increment(1);
}

/// The accounts snapshot was refreshed; `None` when that failed.
pub fn accounts_refreshed(keys: Option<usize>) {
    let result = if keys.is_some() { "ok" } else { "failed" };
    counter!("millrace_accounts_refreshes_total", "result" => result).increment(1);
    if let Some(keys) = keys {
        gauge!("millrace_accounts").set(keys as f64);
    }
}

/// A transaction was committed. `oldest_age` is from the admission of its oldest batch until now.
pub fn transaction_committed(events: u64, oldest_age: Duration) {
    histogram!("millrace_transaction_events").record(events as f64);
    histogram!("millrace_freshness_seconds").record(oldest_age);
}

/// The outcome of one entry that was written for the first time.
pub fn entry_written(outcome: Outcome) {
    counter!("millrace_stored_events_total").increment(u64::from(outcome.stored));
    counter!("millrace_duplicate_events_total").increment(u64::from(outcome.duplicate));
    counter!("millrace_dead_events_total").increment(u64::from(outcome.dead));
}

/// An entry was written that the ledger knew.
pub fn entry_redelivered() {
    counter!("millrace_redelivered_entries_total").increment(1);
}

/// Entries were settled, `late` of them by somebody else before.
pub fn entries_settled(settled: u64, late: u64) {
    counter!("millrace_settled_entries_total").increment(settled);
    counter!("millrace_settled_late_entries_total").increment(late);
}

/// What a lane was doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Reading entries that were there.
    Read,
    /// Writing them into the store, commit included.
    Write,
    /// Removing them from the stream.
    Settle,
}

/// A lane has finished a phase.
pub fn lane_phase(phase: Phase, took: Duration) {
    let phase = match phase {
        Phase::Read => "read",
        Phase::Write => "write",
        Phase::Settle => "settle",
    };
    histogram!("millrace_lane_phase_duration_seconds", "phase" => phase).record(took);
}

/// The environment stopped a transaction.
pub fn write_failed() {
    counter!("millrace_write_failures_total").increment(1);
}

/// A COPY has ended.
pub fn rows_copied(sent: u64, reported: u64) {
    counter!("millrace_copied_rows_total").increment(reported);
    counter!("millrace_copied_rows_mismatch_total").increment(u64::from(sent != reported));
}

/// Entries were taken over from silent consumers; `vanished` of their entries were gone.
pub fn taken_over(entries: usize, vanished: usize) {
    counter!("millrace_taken_over_entries_total").increment(entries as u64);
    counter!("millrace_vanished_entries_total").increment(vanished as u64);
}

/// The backlog now.
pub fn backlog(backlog: Backlog) {
    gauge!("millrace_backlog_entries").set(backlog.entries as f64);
    gauge!("millrace_backlog_events").set(backlog.events as f64);
    gauge!("millrace_backlog_bytes").set(backlog.bytes as f64);
    gauge!("millrace_backlog_oldest_age_seconds").set(backlog.oldest_age_ms as f64 / 1_000.0);
}

/// A round of upkeep was done here.
pub fn upkeep_done(report: crate::store::UpkeepReport) {
    counter!("millrace_partitions_made_total").increment(report.partitions_made);
    counter!("millrace_partitions_retired_total").increment(report.partitions_retired);
    gauge!("millrace_partitions_days_ahead").set(f64::from(report.days_ahead));
}

/// Sessions of ours were ended because they were stuck.
pub fn zombies_terminated(sessions: u64) {
    counter!("millrace_zombies_terminated_total").increment(sessions);
}

/// A round of upkeep failed.
pub fn upkeep_failed() {
    counter!("millrace_upkeep_failures_total").increment(1);
}

/// Conservation was checked for this many projects, and did not hold for `violations` of them.
pub fn conservation_checked(projects: usize, violations: usize) {
    counter!("millrace_conservation_checks_total").increment(projects as u64);
    counter!("millrace_conservation_violations_total").increment(violations as u64);
}
