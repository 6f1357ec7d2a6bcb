//! The metrics of the API.

use std::time::{Duration, Instant};

use millrace_telemetry::metrics::{Table, Values};

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
/// Why an event of a batch was refused: the codes of [`millrace_event::event::Rejection`].
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
    HTTP_REQUESTS: counter "millrace_http_requests_total" { route: Values::Routes, status: Values::These(STATUSES) }
        "Requests answered"
    HTTP_REQUEST_DURATION: latency "millrace_http_request_duration_seconds" { route: Values::Routes }
        "From the request's head to its answer, without the time that Prefer: wait asks for"
    HTTP_REQUESTS_IN_FLIGHT: gauge "millrace_http_requests_in_flight" {}
        "Requests being answered now"
    HTTP_REQUESTS_ABANDONED: counter "millrace_http_requests_abandoned_total" {}
        "Requests that ended without an answer: the client left, or a defect"
    HTTP_REFUSALS: counter "millrace_http_refusals_total" { code: Values::These(PROBLEMS) }
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
    ADMISSIONS: counter "millrace_admissions_total" { verdict: Values::These(VERDICTS) }
        "Batches that reached admission"
    ADMISSION_DURATION: latency "millrace_admission_duration_seconds" {}
        "Round trip of one admission to the stream, until it is on disk"
    ADMITTED_EVENTS: counter "millrace_admitted_events_total" {}
        "Events answered 2xx for the first time"
    ADMITTED_BYTES: counter "millrace_admitted_bytes_total" {}
        "Packed bytes of admitted batches"
    BATCH_EVENTS: sizes "millrace_batch_events" {}
        "Events in one admitted batch"
    REFUSED_EVENTS: counter "millrace_refused_events_total" { code: Values::These(REJECTIONS) }
        "Events refused by the validator"
    FLOOD_REFUSALS: counter "millrace_flood_refusals_total" {}
        "Requests over the rate limit refused without asking the stream"
    ACCOUNTS: gauge "millrace_accounts" {}
        "Valid API keys in the snapshot of accounts"
    ACCOUNTS_REFRESHES: counter "millrace_accounts_refreshes_total" { result: Values::These(&["ok", "failed"]) }
        "Refreshes of the snapshot of accounts"
}
}

/// A request that is being answered. One that is dropped before [`InFlight::answered`] is counted as abandoned.
#[derive(Debug)]
pub struct InFlight {
    began: Instant,
    answered: bool,
}

impl InFlight {
    #[expect(clippy::new_without_default, reason = "it counts")]
    pub fn new() -> Self {
        HTTP_REQUESTS_IN_FLIGHT.add(1.0);
        Self { began: Instant::now(), answered: false }
    }

    /// Counts the answer. `route` is the index of its route among those of `install`; `waited` is the time that
    /// `Prefer: wait` asked for.
    pub fn answered(mut self, route: usize, status: u16, waited: Duration) {
        self.answered = true;
        let mut text = itoa::Buffer::new();
        let text = text.format(status);
        let index = STATUSES.iter().position(|known| *known == text);
        debug_assert!(index.is_some(), "{status} is not in the table of statuses");
        if let Some(counter) = index.and_then(|index| HTTP_REQUESTS.at(route * STATUSES.len() + index)) {
            counter.increment(1);
        }
        if let Some(histogram) = HTTP_REQUEST_DURATION.at(route) {
            histogram.record(self.began.elapsed().saturating_sub(waited).as_secs_f64());
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        HTTP_REQUESTS_IN_FLIGHT.add(-1.0);
        HTTP_REQUESTS_ABANDONED.increment(u64::from(!self.answered));
    }
}

/// A request was refused. `code` is that of its answer.
pub fn request_refused(code: &'static str) {
    HTTP_REFUSALS.increment_with(&[code], 1);
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

/// A batch reached admission. `verdict` is one of the table's values.
pub fn admission(verdict: &'static str, took: Duration) {
    ADMISSIONS.increment_with(&[verdict], 1);
    ADMISSION_DURATION.record(took.as_secs_f64());
}

/// A batch was admitted for the first time.
pub fn batch_admitted(events: u32, packed_bytes: usize) {
    ADMITTED_EVENTS.increment(u64::from(events));
    ADMITTED_BYTES.increment(packed_bytes as u64);
    BATCH_EVENTS.record(f64::from(events));
}

/// The validator refused events.
pub fn events_refused(code: &'static str, events: usize) {
    REFUSED_EVENTS.increment_with(&[code], events as u64);
}

/// A request was refused from a local `blocked_until`, without asking the stream.
pub fn flood_refused() {
    FLOOD_REFUSALS.increment(1);
}

/// The accounts snapshot was refreshed; `None` when that failed.
pub fn accounts_refreshed(keys: Option<usize>) {
    let result = if keys.is_some() { "ok" } else { "failed" };
    ACCOUNTS_REFRESHES.increment_with(&[result], 1);
    if let Some(keys) = keys {
        ACCOUNTS.set(keys as f64);
    }
}
