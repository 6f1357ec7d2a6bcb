//! The metrics of the API.

use std::time::{Duration, Instant};

use millrace_event::event::RejectionCode;
use millrace_telemetry::metrics::{Table, Values};
use strum::VariantNames;

use crate::problem_code::ProblemCode;
use crate::statuses::{STATUS_LABELS, STATUSES};
use crate::verdict::Verdict;

/// Every table of the crates that this program is made of.
pub static TABLES: &[Table] = &[
    METRICS,
    millrace_reconcile::metrics::METRICS,
    millrace_stream::metrics::METRICS,
    millrace_store::metrics::METRICS,
    millrace_telemetry::metrics::METRICS,
];

millrace_telemetry::metrics_table! {
Api on Either {
    HTTP_REQUESTS: counter "millrace_http_requests_total" { route: Values::Routes, status: Values::These(&STATUS_LABELS) }
        "Requests answered"
    HTTP_REQUEST_DURATION: latency "millrace_http_request_duration_seconds" { route: Values::Routes }
        "From the request's head to its answer, without the time that Prefer: wait asks for"
    HTTP_REQUESTS_IN_FLIGHT: gauge "millrace_http_requests_in_flight" {}
        "Requests being answered now"
    HTTP_REQUESTS_ABANDONED: counter "millrace_http_requests_abandoned_total" {}
        "Requests that ended without an answer: the client left, or a defect"
    HTTP_REFUSALS: counter "millrace_http_refusals_total" { code: Values::These(ProblemCode::NAMES) }
        "Requests refused, by the code of the answer"
    HTTP_CONNECTIONS: gauge "millrace_http_connections" {}
        "Open connections"
    HTTP_CONNECTIONS_MAX: gauge "millrace_http_connections_max" {}
        "Limit of open connections"
    HTTP_CONNECTIONS_REFUSED: counter "millrace_http_connections_refused_total" {}
        "Connections closed at the connection limit"
    HTTP_BODY_BYTES: counter "millrace_http_body_bytes_total" {}
        "Bytes of request bodies received, before decompression"
    HTTP_BODY_BYTES_IN_FLIGHT: gauge "millrace_http_body_bytes_in_flight" {}
        "Bytes reserved for bodies being read"
    ADMISSIONS: counter "millrace_admissions_total" { verdict: Values::These(Verdict::VARIANTS) }
        "Batches that reached admission"
    ADMISSION_DURATION: latency "millrace_admission_duration_seconds" {}
        "Round trip of one admission to the stream, until it is on disk"
    ADMITTED_EVENTS: counter "millrace_admitted_events_total" {}
        "Events answered 2xx for the first time"
    ADMITTED_BYTES: counter "millrace_admitted_bytes_total" {}
        "Bytes of the rows of admitted batches, before compression"
    BATCH_EVENTS: sizes "millrace_batch_events" {}
        "Events in one admitted batch"
    REFUSED_EVENTS: counter "millrace_refused_events_total" { code: Values::These(RejectionCode::VARIANTS) }
        "Events refused by the validator"
    UNDELIVERABLE_CALLS: counter "millrace_undeliverable_calls_total" { code: Values::These(RejectionCode::VARIANTS) }
        "Calls of SDKs that no event can be made of; when their batch is admitted, they become dead letters"
    FLOOD_REFUSALS: counter "millrace_flood_refusals_total" {}
        "Requests over the rate limit refused without asking the stream"
    ACCOUNTS: gauge "millrace_accounts" {}
        "Valid API keys in the snapshot of accounts"
    ACCOUNTS_REFRESHES: counter "millrace_accounts_refreshes_total" { result: Values::These(&["ok", "failed"]) }
        "Refreshes of the snapshot of accounts"
    ACCOUNTS_READ: counter "millrace_accounts_read_total" {}
        "Accounts that these refreshes have read from the store"
}
}

/// Measures a request. One that is dropped before [`RequestTimer::answered`] is counted as abandoned.
#[derive(Debug)]
pub struct RequestTimer {
    began: Instant,
    answered: bool,
}

impl RequestTimer {
    pub fn start() -> Self {
        HTTP_REQUESTS_IN_FLIGHT.add(1.0);
        Self { began: Instant::now(), answered: false }
    }

    /// Counts the answer. `route` is the index of its route among those passed to `install`. `waited` is how
    /// long the client waited because of `Prefer: wait`.
    pub fn answered(mut self, route: usize, status: u16, waited: Duration) {
        self.answered = true;
        let index = STATUSES.iter().position(|known| *known == status);
        debug_assert!(index.is_some(), "{status} is not a status of a problem code, nor in OTHER_STATUSES");
        if let Some(counter) = index.and_then(|index| HTTP_REQUESTS.at(route * STATUSES.len() + index)) {
            counter.increment(1);
        }
        if let Some(histogram) = HTTP_REQUEST_DURATION.at(route) {
            histogram.record(self.began.elapsed().saturating_sub(waited).as_secs_f64());
        }
    }
}

impl Drop for RequestTimer {
    fn drop(&mut self) {
        HTTP_REQUESTS_IN_FLIGHT.add(-1.0);
        HTTP_REQUESTS_ABANDONED.increment(u64::from(!self.answered));
    }
}

/// A request was refused with this code.
pub fn request_refused(code: ProblemCode) {
    HTTP_REFUSALS.increment_with(&[code.into()], 1);
}

/// Connections open now, and how many may be.
pub fn connections(open: usize, max: usize) {
    HTTP_CONNECTIONS.set(open as f64);
    HTTP_CONNECTIONS_MAX.set(max as f64);
}

pub fn connection_refused() {
    HTTP_CONNECTIONS_REFUSED.increment(1);
}

pub fn body_received(bytes: usize) {
    HTTP_BODY_BYTES.increment(bytes as u64);
}

/// Bytes reserved for bodies now.
pub fn body_bytes_in_flight(bytes: usize) {
    HTTP_BODY_BYTES_IN_FLIGHT.set(bytes as f64);
}

/// A batch reached admission, which took this long.
pub fn admission(verdict: Verdict, took: Duration) {
    ADMISSIONS.increment_with(&[verdict.into()], 1);
    ADMISSION_DURATION.record(took.as_secs_f64());
}

/// A batch was admitted for the first time.
pub fn batch_admitted(events: u32, rows_bytes: usize) {
    ADMITTED_EVENTS.increment(u64::from(events));
    ADMITTED_BYTES.increment(rows_bytes as u64);
    BATCH_EVENTS.record(f64::from(events));
}

/// The validator rejected events.
pub fn events_refused(code: RejectionCode, events: usize) {
    REFUSED_EVENTS.increment_with(&[code.into()], events as u64);
}

/// No event could be made of calls that are accepted as dead letters.
pub fn calls_undeliverable(code: RejectionCode, calls: usize) {
    UNDELIVERABLE_CALLS.increment_with(&[code.into()], calls as u64);
}

/// A request over its rate was refused without asking the stream.
pub fn flood_refused() {
    FLOOD_REFUSALS.increment(1);
}

/// A refresh has read this many accounts.
pub fn accounts_read(accounts: usize) {
    ACCOUNTS_READ.increment(accounts as u64);
}

/// The accounts snapshot was refreshed; `None` when that failed.
pub fn accounts_refreshed(keys: Option<usize>) {
    let result = if keys.is_some() { "ok" } else { "failed" };
    ACCOUNTS_REFRESHES.increment_with(&[result], 1);
    if let Some(keys) = keys {
        ACCOUNTS.set(keys as f64);
    }
}
