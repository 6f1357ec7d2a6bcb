//! The worker's metrics.

use std::time::Duration;

use millrace_event::Outcome;
use millrace_store::{NotificationBacklog, Standbys, UpkeepReport};
use millrace_stream::Backlog;
use millrace_telemetry::metrics::{Table, Values};
use strum::VariantNames;

/// A task that the worker restarts when it panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Task {
    Lane,
    Upkeep,
}

/// The metric tables of every crate in this program.
pub static TABLES: &[Table] = &[
    METRICS,
    millrace_reconcile::metrics::METRICS,
    millrace_stream::metrics::METRICS,
    millrace_store::metrics::METRICS,
    millrace_telemetry::metrics::METRICS,
];

millrace_telemetry::metrics_table! {
Worker on Either {
    LANES: gauge "millrace_lanes" {}
        "Lanes that are running"
    RESTARTS: counter "millrace_restarts_total" { task: Values::These(Task::VARIANTS) }
        "Tasks restarted after a panic"
    TRANSACTION_EVENTS: sizes "millrace_transaction_events" {}
        "Events in one transaction"
    FRESHNESS: age "millrace_freshness_seconds" {}
        "From admission to commit, for the oldest batch of each transaction"
    STORED_EVENTS: counter "millrace_stored_events_total" {}
        "Events stored"
    DUPLICATE_EVENTS: counter "millrace_duplicate_events_total" {}
        "Events that were already stored"
    CONFLICT_EVENTS: counter "millrace_conflict_events_total" {}
        "Events that were already stored with another payload; each is counted as a duplicate as well"
    DEAD_EVENTS: counter "millrace_dead_events_total" {}
        "Events dead-lettered"
    REDELIVERED_ENTRIES: counter "millrace_redelivered_entries_total" {}
        "Batches that were already in the ledger"
    SETTLED_ENTRIES: counter "millrace_settled_entries_total" {}
        "Entries removed from the stream after their commit"
    SETTLED_LATE_ENTRIES: counter "millrace_settled_late_entries_total" {}
        "Entries that another lane had already settled"
    WRITE_FAILURES: counter "millrace_write_failures_total" {}
        "Transactions that failed because of the environment; each is retried"
    BACKLOG_ENTRIES: gauge "millrace_backlog_entries" {}
        "Entries in the stream; each holds the batches that were admitted together"
    BACKLOG_EVENTS: gauge "millrace_backlog_events" {}
        "Events in the stream"
    BACKLOG_BYTES: gauge "millrace_backlog_bytes" {}
        "Packed bytes in the stream"
    BACKLOG_OLDEST_AGE: gauge "millrace_backlog_oldest_age_seconds" {}
        "Age of the oldest entry; 0 when the stream is empty"
    PARTITIONS_AHEAD: gauge "millrace_partitions_ahead" {}
        "Days from tomorrow on for which partitions exist; on files always 366"
    PARTITIONS_MADE: counter "millrace_partitions_made_total" {}
        "Partitions created for the days around today"
    PARTITIONS_RETIRED: counter "millrace_partitions_retired_total" {}
        "Partitions dropped by retention"
    UPKEEP_LAST: gauge "millrace_upkeep_last_timestamp_seconds" {}
        "When a round of upkeep last succeeded"
    UPKEEP_FAILURES: counter "millrace_upkeep_failures_total" {}
        "Rounds of upkeep that failed"
    CONSERVATION_CHECKS: counter "millrace_conservation_checks_total" {}
        "Comparisons of a project's accepted and stored events"
    CONSERVATION_VIOLATIONS: counter "millrace_conservation_violations_total" {}
        "Sentinel: comparisons that did not balance"
    CONSERVATION_FAILURES: counter "millrace_conservation_failures_total" {}
        "Comparisons that failed"
    CONSERVATION_LAST: gauge "millrace_conservation_last_timestamp_seconds" {}
        "When accepted and stored events were last compared"
    CONSERVATION_BROKEN: gauge "millrace_conservation_broken_projects" {}
        "Projects that did not balance at the last comparison"
    CONSERVATION_EVENTS: gauge "millrace_conservation_events" { part: Values::These(&["accepted", "stored", "duplicate", "dead", "pending"]) }
        "Events of all projects over all time, at the last comparison: accepted = stored + duplicate + dead + pending"
    METER_ROWS_MOVED: counter "millrace_meter_rows_moved_total" {}
        "Additions to meters moved to their figures, and rows of deleted meters removed"
    METER_CHECKS: counter "millrace_meter_checks_total" {}
        "Comparisons of a meter's figures of a quarter of an hour with the events"
    METER_VIOLATIONS: counter "millrace_meter_violations_total" {}
        "Sentinel: comparisons of a meter that found a difference"
    METER_FAILURES: counter "millrace_meter_failures_total" {}
        "Rounds and comparisons of meters that failed"
    NOTIFICATION_ATTEMPTS: counter "millrace_notification_attempts_total" { result: Values::These(DeliveryEnd::VARIANTS) }
        "Attempts to deliver a notification; dead were the last ones"
    NOTIFICATIONS_PENDING: gauge "millrace_notifications_pending" {}
        "Notifications that are not delivered yet"
    NOTIFICATIONS_DEAD: gauge "millrace_notifications_dead" {}
        "Notifications that were given up, and not retried since"
    NOTIFICATION_OLDEST_AGE: gauge "millrace_notification_oldest_age_seconds" {}
        "Age of the oldest notification that is not delivered yet; 0 when there is none"
    QUOTA_PROJECTS: gauge "millrace_quota_projects" { used_percent: Values::These(&["80", "90", "100"]) }
        "Projects that have used at least this share of their month's quota"
    REDRIVE_LAST: gauge "millrace_redrive_last_timestamp_seconds" {}
        "When dead letters were last redriven; 0 means never"
}
Worker on Servers {
    SETTLEMENTS_WAITING: gauge "millrace_settlements_waiting" {}
        "Stored entries that stay in the stream until standbys have their commit; see SETTLE_AFTER"
    SETTLE_STANDBYS: gauge "millrace_settle_standbys" {}
        "Standbys that must have an entry before it leaves the stream; 0 with SETTLE_AFTER=commit"
    STORE_STANDBYS: gauge "millrace_store_standbys" {}
        "Standbys that are connected to PostgreSQL; 0 also when they cannot be seen"
    STORE_SYNCHRONOUS: gauge "millrace_store_synchronous_standbys" {}
        "Standbys that a commit may wait for; 0 also when they cannot be seen"
    STORE_FAILOVERS: counter "millrace_store_failovers_total" {}
        "Times that this process was the first to see PostgreSQL on another timeline"
}
}

/// Records rows that were moved to the figures of meters.
pub fn meter_rows_moved(rows: u64) {
    METER_ROWS_MOVED.increment(rows);
}

/// Records the comparison of one meter.
pub fn meter_checked(is_wrong: bool) {
    METER_CHECKS.increment(1);
    METER_VIOLATIONS.increment(u64::from(is_wrong));
}

/// How an attempt to deliver a notification ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryEnd {
    Delivered,
    /// It will be repeated.
    Failed,
    /// It was the last one.
    Dead,
}

impl DeliveryEnd {
    pub fn of(is_failure: bool, is_repeated: bool) -> Self {
        match (is_failure, is_repeated) {
            (false, _) => Self::Delivered,
            (true, true) => Self::Failed,
            (true, false) => Self::Dead,
        }
    }
}

/// Records an attempt to deliver a notification.
pub fn notification_sent(end: DeliveryEnd) {
    NOTIFICATION_ATTEMPTS.increment_with(&[end.into()], 1);
}

/// Records what waits for delivery.
pub fn notification_backlog(backlog: NotificationBacklog) {
    NOTIFICATIONS_PENDING.set(backlog.pending as f64);
    NOTIFICATIONS_DEAD.set(backlog.dead as f64);
    NOTIFICATION_OLDEST_AGE.set(backlog.oldest_age.as_secs_f64());
}

/// Records a round or a comparison of meters that failed.
pub fn meters_failed() {
    METER_FAILURES.increment(1);
}

/// Counts one running lane until it is dropped.
#[derive(Debug)]
pub struct RunningLane;

impl RunningLane {
    #[expect(clippy::new_without_default, reason = "it counts")]
    pub fn new() -> Self {
        LANES.add(1.0);
        Self
    }
}

impl Drop for RunningLane {
    fn drop(&mut self) {
        LANES.add(-1.0);
    }
}

pub fn restarted(task: Task) {
    RESTARTS.increment_with(&[task.into()], 1);
}

/// `oldest_age` is the time from the admission of the oldest batch until now.
pub fn transaction_committed(events: u64, oldest_age: Duration) {
    TRANSACTION_EVENTS.record(events as f64);
    FRESHNESS.record(oldest_age.as_secs_f64());
}

/// Records a batch that was written for the first time.
pub fn batch_written(outcome: Outcome) {
    STORED_EVENTS.increment(u64::from(outcome.stored));
    DUPLICATE_EVENTS.increment(u64::from(outcome.duplicate));
    DEAD_EVENTS.increment(u64::from(outcome.dead));
    CONFLICT_EVENTS.increment(u64::from(outcome.conflict));
}

/// Records a batch that was already in the ledger.
pub fn batch_redelivered() {
    REDELIVERED_ENTRIES.increment(1);
}

/// `settled` entries were removed from the stream; another lane had already removed `late` more.
pub fn entries_settled(settled: u64, late: u64) {
    SETTLED_ENTRIES.increment(settled);
    SETTLED_LATE_ENTRIES.increment(late);
}

/// More entries wait for standbys, or fewer when it is negative.
pub fn settlements_waiting(more: f64) {
    SETTLEMENTS_WAITING.add(more);
}

/// `needed` is the number of standbys that must have an entry before it is settled.
pub fn standbys(standbys: Standbys, needed: u16) {
    STORE_STANDBYS.set(f64::from(standbys.connected));
    STORE_SYNCHRONOUS.set(f64::from(standbys.synchronous));
    SETTLE_STANDBYS.set(f64::from(needed));
    // Visible from the first look, as the others are.
    SETTLEMENTS_WAITING.add(0.0);
}

pub fn failed_over() {
    STORE_FAILOVERS.increment(1);
}

pub fn write_failed() {
    WRITE_FAILURES.increment(1);
}

pub fn backlog(backlog: Backlog) {
    BACKLOG_ENTRIES.set(backlog.entries as f64);
    BACKLOG_EVENTS.set(backlog.events as f64);
    BACKLOG_BYTES.set(backlog.bytes as f64);
    BACKLOG_OLDEST_AGE.set(backlog.oldest_age_ms as f64 / 1_000.0);
}

pub fn upkeep_done(report: UpkeepReport) {
    PARTITIONS_MADE.increment(report.partitions_made);
    PARTITIONS_RETIRED.increment(report.partitions_retired);
    PARTITIONS_AHEAD.set(f64::from(report.days_ahead));
    UPKEEP_LAST.set_to_now();
}

pub fn upkeep_failed() {
    UPKEEP_FAILURES.increment(1);
}

/// The result of one comparison of stream and store, over all projects.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Conservation {
    pub projects: u64,
    /// Projects that did not balance.
    pub broken: u64,
    /// Events ever admitted.
    pub accepted: u64,
    /// Events ever stored.
    pub stored: u64,
    pub duplicate: u64,
    /// Events in dead letters.
    pub dead: u64,
    /// Events admitted and not settled.
    pub pending: i64,
}

pub fn conservation_checked(sum: &Conservation) {
    CONSERVATION_CHECKS.increment(sum.projects);
    CONSERVATION_VIOLATIONS.increment(sum.broken);
    CONSERVATION_BROKEN.set(sum.broken as f64);
    let Conservation { accepted, stored, duplicate, dead, pending, .. } = *sum;
    for (part, events) in
        [("accepted", accepted), ("stored", stored), ("duplicate", duplicate), ("dead", dead)]
    {
        CONSERVATION_EVENTS.set_with(&[part], events as f64);
    }
    CONSERVATION_EVENTS.set_with(&["pending"], pending as f64);
    CONSERVATION_LAST.set_to_now();
}

pub fn conservation_failed() {
    CONSERVATION_FAILURES.increment(1);
}

/// `at_least` counts the projects that have used at least 80, 90 and 100 % of their month's quota.
pub fn quota_projects(at_least: [u64; 3]) {
    for (step, projects) in ["80", "90", "100"].into_iter().zip(at_least) {
        QUOTA_PROJECTS.set_with(&[step], projects as f64);
    }
}

/// `at_s` is in seconds since 1970; 0 means never.
pub fn last_redrive(at_s: f64) {
    REDRIVE_LAST.set(at_s);
}
