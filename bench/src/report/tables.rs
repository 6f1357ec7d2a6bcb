//! The tables of a report.

use super::goals::{Bound, Goal, Outcome, goals};
use super::numbers::{latency, optional, short, whole};
use super::text_table::TextTable;
use crate::results::{Ceiling, Measurement, Results};
use crate::subjects::SubjectName;

pub fn ceilings(results: &Results) -> TextTable {
    let row = |ceiling: &Ceiling| {
        vec![
            ceiling.name.clone(),
            whole(ceiling.events_per_batch as f64),
            whole(ceiling.per_s),
            whole(ceiling.events_per_s),
        ]
    };
    let head = ["component", "events per batch", "batches/s", "events/s"];
    TextTable::new(&head, results.ceilings.iter().map(row))
}

pub fn throughput(results: &Results) -> TextTable {
    let row = |measurement: &Measurement| {
        let mut row = title(measurement);
        row.extend([
            whole(measurement.rows_before as f64),
            whole(measurement.connections as f64),
            whole(measurement.requests_per_s),
            whole(measurement.accepted_per_s),
            whole(measurement.stored_per_s),
            whole(measurement.backlog_begin as f64),
            whole(measurement.backlog_end as f64),
            format!("{:.0} %", measurement.held_share * 100.0),
            whole((measurement.refused + measurement.unanswered + measurement.unsent) as f64),
        ]);
        row
    };
    let head = [
        "scenario",
        "load",
        "subject",
        "rows before",
        "connections",
        "requests/s",
        "events accepted/s",
        "events stored/s",
        "backlog at start",
        "backlog at end",
        "held back",
        "failed requests",
    ];
    TextTable::new(&head, results.measurements.iter().map(row))
}

pub fn latencies(results: &Results) -> TextTable {
    let row = |measurement: &Measurement| {
        let Measurement { latency: times, lateness, freshness, .. } = measurement;
        let mut row = title(measurement);
        row.extend(
            [times.mean_ms, times.p50_ms, times.p95_ms, times.p99_ms, times.p999_ms, times.max_ms].map(short),
        );
        row.extend([
            latency(*lateness, lateness.p99_ms),
            latency(*freshness, freshness.p50_ms),
            latency(*freshness, freshness.p99_ms),
        ]);
        row
    };
    let head = [
        "scenario",
        "load",
        "subject",
        "mean",
        "p50",
        "p95",
        "p99",
        "p99.9",
        "max",
        "generator lateness p99",
        "freshness p50",
        "freshness p99",
    ];
    TextTable::new(&head, results.measurements.iter().map(row))
}

pub fn costs(results: &Results) -> TextTable {
    let row = |measurement: &Measurement| {
        let cpu = measurement.cpu_s_per_million.iter().map(|(name, seconds)| format!("{name} {seconds:.1}"));
        let memory = measurement
            .memory
            .iter()
            .map(|(name, memory)| format!("{name} {:.0} ({:.0})", memory.peak_mb, memory.end_mb));
        let mut row = title(measurement);
        row.extend([
            cpu.collect::<Vec<_>>().join(", "),
            format!("{:.2}", measurement.generator_processors),
            memory.collect::<Vec<_>>().join(", "),
            optional(measurement.pending.map(|pending| pending.redis_bytes_per_event)),
            optional(measurement.pending.map(|pending| pending.aof_bytes_per_event)),
            optional(measurement.wal_bytes_per_event),
        ]);
        row
    };
    let head = [
        "scenario",
        "load",
        "subject",
        "CPU seconds per million events",
        "generator CPUs",
        "peak memory in MB (at end)",
        "Redis bytes per waiting event",
        "AOF bytes per event",
        "WAL bytes per event",
    ];
    TextTable::new(&head, results.measurements.iter().map(row))
}

/// What a setting costs: each variant of Millrace relative to Millrace without it, at the same load.
pub fn variants(results: &Results) -> TextTable {
    let row = |variant: &Measurement| {
        let usual = results.measurement(&variant.scenario, &variant.part, SubjectName::Millrace)?;
        let relative = |value: fn(&Measurement) -> f64| format!("{:.2} x", value(variant) / value(usual));
        let mut row = title(variant);
        row.extend([
            relative(|found| found.copy.map_or(found.stored_per_s, |copy| copy.stored_ratio)),
            relative(Measurement::cpu_s_per_million_in_all),
            relative(|found| found.latency.p50_ms),
            relative(|found| found.latency.p99_ms),
        ]);
        Some(row)
    };
    let variants = results.measurements.iter().filter(|measurement| measurement.subject.is_variant());
    let head =
        ["scenario", "load", "subject", "events stored/s", "CPU seconds", "latency p50", "latency p99"];
    TextTable::new(&head, variants.filter_map(row))
}

pub fn goal_table(results: &Results) -> TextTable {
    let row = |goal: &Goal| {
        let target = match goal.target {
            Bound::AtLeast(target) => format!("≥ {}", value(target)),
            Bound::AtMost(target) => format!("≤ {}", value(target)),
            Bound::Below(target) => format!("< {}", value(target)),
        };
        let outcome = match goal.outcome() {
            Outcome::Reached => "reached".to_owned(),
            Outcome::Missed(share) => format!("missed: {share:.2} x target"),
            Outcome::NotMeasured => "not measured".to_owned(),
        };
        let measured = goal
            .measured
            .map_or_else(|| "-".to_owned(), |measured| format!("{} {}", value(measured), goal.unit));
        vec![goal.name.clone(), format!("{target} {}", goal.unit), measured, outcome]
    };
    TextTable::new(&["goal", "target", "measured", "result"], goals(results).iter().map(row))
}

/// The first cells of a row: scenario, load and subject.
pub fn title(measurement: &Measurement) -> Vec<String> {
    vec![measurement.scenario.clone(), measurement.part.clone(), measurement.subject.as_str().to_owned()]
}

fn value(value: f64) -> String {
    if value >= 1_000.0 { whole(value) } else { short(value) }
}
