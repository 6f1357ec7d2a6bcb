//! One line per measurement, printed while the benchmark runs.

use super::numbers::{latency, short, whole};
use crate::results::{Ceiling, Measurement};

pub fn measurement_line(measurement: &Measurement) -> String {
    let Measurement { scenario, part, repetition, latency: times, freshness, .. } = measurement;
    let mut text = format!(
        "{scenario:>10} {part:<18} {subject:<19} #{repetition} {requests:>8} requests/s  {accepted:>9} accepted/s  {stored:>9} stored/s  \
         latency p50 {p50:>7} p99 {p99:>7} max {max:>7} ms  freshness p99 {fresh:>7} ms  backlog {begin} to {end}, \
         held back {held:.0} %",
        subject = measurement.subject.as_str(),
        requests = whole(measurement.requests_per_s),
        accepted = whole(measurement.accepted_per_s),
        stored = whole(measurement.stored_per_s),
        p50 = short(times.p50_ms),
        p99 = short(times.p99_ms),
        max = short(times.max_ms),
        fresh = latency(*freshness, freshness.p99_ms),
        begin = whole(measurement.backlog_begin as f64),
        end = whole(measurement.backlog_end as f64),
        held = measurement.held_share * 100.0,
    );
    let failed = [
        ("refused", measurement.refused),
        ("unanswered", measurement.unanswered),
        ("unsent", measurement.unsent),
    ];
    for (name, count) in failed {
        if count > 0 {
            text += &format!(", {count} requests {name}");
        }
    }
    text
}

pub fn ceiling_line(ceiling: &Ceiling) -> String {
    format!(
        "   ceiling {:<35} {:>8} batches/s of {} events: {:>9} events/s",
        ceiling.name,
        whole(ceiling.per_s),
        whole(ceiling.events_per_batch as f64),
        whole(ceiling.events_per_s)
    )
}
