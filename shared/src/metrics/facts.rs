//! One function for each fact that is recorded.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram};

use super::series::Recorded;
use super::*;
use crate::store::UpkeepReport;
use crate::stream::{Backlog, Outcome};

fn count(counter: Option<&Counter>, by: u64) {
    if let Some(counter) = counter {
        counter.increment(by);
    }
}

fn set(gauge: Option<&Gauge>, to: f64) {
    if let Some(gauge) = gauge {
        gauge.set(to);
    }
}

fn observe(histogram: Option<&Histogram>, value: f64) {
    if let Some(histogram) = histogram {
        histogram.record(value);
    }
}

fn set_now(gauge: &Recorded<Gauge>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    set(gauge.only(), now.as_secs_f64());
}

/// What this process was built from.
pub(super) fn built() {
    set(BUILD_INFO.of(&[VERSION[0], COMMIT[0]]), 1.0);
}

/// A request that is being answered. One that is dropped before it was is counted as abandoned.
#[derive(Debug)]
pub struct InFlight {
    began: Instant,
    answered: bool,
}

impl InFlight {
    /// Its head is here.
    #[expect(clippy::new_without_default, reason = "it counts")]
    pub fn new() -> Self {
        if let Some(gauge) = HTTP_REQUESTS_IN_FLIGHT.only() {
            gauge.increment(1.0);
        }
        Self { began: Instant::now(), answered: false }
    }

    /// It was answered. `route` is the place of its route among those of [`install`]; for `waited` of the time nothing was done
    /// because the client wished to wait.
    pub fn answered(mut self, route: usize, status: u16, waited: Duration) {
        self.answered = true;
        let mut text = itoa::Buffer::new();
        let text = text.format(status);
        let place = STATUSES.iter().position(|known| *known == text);
        debug_assert!(place.is_some(), "{status} is no status of ours");
        if let Some(place) = place {
            count(HTTP_REQUESTS.at(route * STATUSES.len() + place), 1);
        }
        observe(HTTP_REQUEST_DURATION.at(route), self.began.elapsed().saturating_sub(waited).as_secs_f64());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(gauge) = HTTP_REQUESTS_IN_FLIGHT.only() {
            gauge.decrement(1.0);
        }
        count(HTTP_REQUESTS_ABANDONED.only(), u64::from(!self.answered));
    }
}

/// A request was refused. `code` is that of its answer.
pub fn request_refused(code: &'static str) {
    count(HTTP_REFUSALS.of(&[code]), 1);
}

/// Connections open now, and how many may be.
pub fn connections(open: usize, max: usize) {
    set(HTTP_CONNECTIONS.only(), open as f64);
    set(HTTP_CONNECTIONS_MAX.only(), max as f64);
}

/// A connection was closed because too many are open.
pub fn connection_refused() {
    count(HTTP_CONNECTIONS_REFUSED.only(), 1);
}

/// A body was received.
pub fn body_received(bytes: usize) {
    count(HTTP_BODY_BYTES.only(), bytes as u64);
}

/// Bytes reserved for bodies now.
pub fn body_bytes_in_flight(bytes: usize) {
    set(HTTP_BODY_BYTES_IN_FLIGHT.only(), bytes as f64);
}

/// A batch reached admission. `verdict` is a constant.
pub fn admission(verdict: &'static str, took: Duration) {
    count(ADMISSIONS.of(&[verdict]), 1);
    observe(ADMISSION_DURATION.only(), took.as_secs_f64());
}

/// A batch was admitted for the first time.
pub fn batch_admitted(events: u32, packed_bytes: usize) {
    count(ADMITTED_EVENTS.only(), u64::from(events));
    count(ADMITTED_BYTES.only(), packed_bytes as u64);
    observe(BATCH_EVENTS.only(), f64::from(events));
}

/// Events were refused by the validator.
pub fn events_refused(code: &'static str, events: usize) {
    count(REFUSED_EVENTS.of(&[code]), events as u64);
}

/// A request was refused on the word of an earlier answer.
pub fn flood_refused() {
    count(FLOOD_REFUSALS.only(), 1);
}

/// A call to the stream failed. `kind` is a constant.
pub fn stream_error(kind: &'static str) {
    count(STREAM_ERRORS.of(&[kind]), 1);
}

/// Whether the circuit to the stream is closed.
pub fn stream_connected(connected: bool) {
    set(STREAM_CONNECTED.only(), f64::from(connected));
}

/// A connection to the stream was made anew.
pub fn stream_reconnected() {
    count(STREAM_RECONNECTS.only(), 1);
}

/// A connection to the store was made anew: a lane's, or the listener's. (The pool's are found when it is looked at.)
pub fn store_reconnected(connection: &'static str) {
    count(STORE_RECONNECTS.of(&[connection]), 1);
}

/// A connection to the store could not be made.
pub fn store_connect_failed() {
    count(STORE_CONNECT_FAILURES.only(), 1);
}

/// The stream's durability was checked.
pub fn durability_checked(strict: bool) {
    count(DURABILITY_CHECKS.only(), 1);
    count(DURABILITY_FAULTS.only(), u64::from(!strict));
    set(DURABILITY_STRICT.only(), f64::from(strict));
}

/// What Redis says of its memory and its file.
pub fn redis_size(memory_bytes: Option<u64>, memory_max_bytes: Option<u64>, aof_bytes: Option<u64>) {
    for (gauge, bytes) in
        [(&REDIS_MEMORY, memory_bytes), (&REDIS_MEMORY_MAX, memory_max_bytes), (&REDIS_AOF, aof_bytes)]
    {
        if let Some(bytes) = bytes {
            set(gauge.only(), bytes as f64);
        }
    }
}

/// Whether the stream's epoch is trusted.
pub fn epoch_trusted(trusted: bool) {
    set(EPOCH_TRUSTED.only(), f64::from(trusted));
}

/// A shard that had lost its epoch was rebuilt.
pub fn epoch_rebuilt() {
    count(EPOCH_REBUILDS.only(), 1);
}

/// The accounts snapshot was refreshed; `None` when that failed.
pub fn accounts_refreshed(keys: Option<usize>) {
    let result = if keys.is_some() { "ok" } else { "failed" };
    count(ACCOUNTS_REFRESHES.of(&[result]), 1);
    if let Some(keys) = keys {
        set(ACCOUNTS.only(), keys as f64);
    }
}

/// A lane that is running, until it is dropped.
#[derive(Debug)]
pub struct RunningLane;

impl RunningLane {
    /// It begins.
    #[expect(clippy::new_without_default, reason = "it counts")]
    pub fn new() -> Self {
        if let Some(gauge) = LANES.only() {
            gauge.increment(1.0);
        }
        Self
    }
}

impl Drop for RunningLane {
    fn drop(&mut self) {
        if let Some(gauge) = LANES.only() {
            gauge.decrement(1.0);
        }
    }
}

/// What a worker keeps alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// A lane.
    Lane,
    /// Upkeep.
    Upkeep,
}

/// A task was ended by a panic and will be begun anew.
pub fn restarted(task: Task) {
    count(RESTARTS.at(task as usize), 1);
}

/// A transaction was committed. `oldest_age` is from the admission of its oldest batch until now.
pub fn transaction_committed(events: u64, oldest_age: Duration) {
    observe(TRANSACTION_EVENTS.only(), events as f64);
    observe(FRESHNESS.only(), oldest_age.as_secs_f64());
}

/// The outcome of one entry that was written for the first time.
pub fn entry_written(outcome: Outcome) {
    count(STORED_EVENTS.only(), u64::from(outcome.stored));
    count(DUPLICATE_EVENTS.only(), u64::from(outcome.duplicate));
    count(DEAD_EVENTS.only(), u64::from(outcome.dead));
}

/// An entry was written that the ledger knew.
pub fn entry_redelivered() {
    count(REDELIVERED_ENTRIES.only(), 1);
}

/// Entries were settled, `late` of them by somebody else before.
pub fn entries_settled(settled: u64, late: u64) {
    count(SETTLED_ENTRIES.only(), settled);
    count(SETTLED_LATE_ENTRIES.only(), late);
}

/// What a lane was doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Reading entries that were there.
    Read,
    /// Writing them into the store, until nothing is left but to commit.
    Copy,
    /// Committing: what waits for the store's disk.
    Commit,
    /// Removing them from the stream.
    Settle,
}

/// A lane has finished a phase.
pub fn lane_phase(phase: Phase, took: Duration) {
    observe(LANE_PHASE_DURATION.at(phase as usize), took.as_secs_f64());
}

/// The environment stopped a transaction.
pub fn write_failed() {
    count(WRITE_FAILURES.only(), 1);
}

/// A COPY has ended.
pub fn rows_copied(sent: u64, reported: u64) {
    count(COPIED_ROWS.only(), reported);
    count(COPIED_ROWS_MISMATCH.only(), u64::from(sent != reported));
}

/// Entries were taken over from silent consumers; `vanished` of their entries were gone.
pub fn taken_over(entries: usize, vanished: usize) {
    count(TAKEN_OVER_ENTRIES.only(), entries as u64);
    count(VANISHED_ENTRIES.only(), vanished as u64);
}

/// The backlog now.
pub fn backlog(backlog: Backlog) {
    set(BACKLOG_ENTRIES.only(), backlog.entries as f64);
    set(BACKLOG_EVENTS.only(), backlog.events as f64);
    set(BACKLOG_BYTES.only(), backlog.bytes as f64);
    set(BACKLOG_OLDEST_AGE.only(), backlog.oldest_age_ms as f64 / 1_000.0);
}

/// How many events may wait, over all shards.
pub fn backlog_events_max(events: u64) {
    set(BACKLOG_EVENTS_MAX.only(), events as f64);
}

/// A round of upkeep was done here.
pub fn upkeep_done(report: UpkeepReport) {
    count(PARTITIONS_MADE.only(), report.partitions_made);
    count(PARTITIONS_RETIRED.only(), report.partitions_retired);
    set(PARTITIONS_AHEAD.only(), f64::from(report.days_ahead));
    set_now(&UPKEEP_LAST);
}

/// Sessions of ours were ended because they were stuck.
pub fn zombies_terminated(sessions: u64) {
    count(ZOMBIES_TERMINATED.only(), sessions);
}

/// A round of upkeep failed.
pub fn upkeep_failed() {
    count(UPKEEP_FAILURES.only(), 1);
}

/// What one comparison of stream and store has found, over all projects.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Conservation {
    /// Projects that were compared.
    pub projects: u64,
    /// Of these, the ones that did not balance.
    pub broken: u64,
    /// Events ever admitted.
    pub accepted: u64,
    /// Events ever stored.
    pub stored: u64,
    /// Events that were stored before.
    pub duplicate: u64,
    /// Events in dead letters.
    pub dead: u64,
    /// Events admitted and not settled.
    pub pending: i64,
}

/// Accepted and stored events were compared.
pub fn conservation_checked(found: &Conservation) {
    count(CONSERVATION_CHECKS.only(), found.projects);
    count(CONSERVATION_VIOLATIONS.only(), found.broken);
    set(CONSERVATION_BROKEN.only(), found.broken as f64);
    let Conservation { accepted, stored, duplicate, dead, pending, .. } = *found;
    for (part, events) in
        [("accepted", accepted), ("stored", stored), ("duplicate", duplicate), ("dead", dead)]
    {
        set(CONSERVATION_EVENTS.of(&[part]), events as f64);
    }
    set(CONSERVATION_EVENTS.of(&["pending"]), pending as f64);
    set_now(&CONSERVATION_LAST);
}

/// They could not be compared.
pub fn conservation_failed() {
    count(CONSERVATION_FAILURES.only(), 1);
}

/// How many projects have used at least 80, 90 and 100 % of their month.
pub fn quota_projects(at_least: [u64; 3]) {
    for (place, projects) in at_least.into_iter().enumerate() {
        set(QUOTA_PROJECTS.at(place), projects as f64);
    }
}

/// When dead letters were last driven again, in seconds since 1970; 0 is never.
pub fn last_redrive(at_s: f64) {
    set(REDRIVE_LAST.only(), at_s);
}
