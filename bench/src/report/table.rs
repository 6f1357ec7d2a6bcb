//! Tables of text: on standard output, and in the page.

use super::goals::{Bound, Goal, Verdict, goals};
use crate::figures::{Ceiling, Measurement, Results, Times};

/// Names and figures, in rows of equal length.
#[derive(Clone, Debug)]
pub struct Table {
    /// The heading of each column.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

/// What is known of a part when it is done, for whoever waits.
pub fn line(seen: &Measurement) -> String {
    let Measurement { scenario, part, latency, freshness, .. } = seen;
    let subject = seen.subject.word();
    let mut text = format!(
        "{scenario:>10} {part:<18} {subject:<16} {requests:>8} requests/s  accepted {accepted:>9}/s  stored {stored:>9}/s  \
         p50 {p50:>7} p99 {p99:>7} max {max:>7} ms  fresh p99 {fresh:>7} ms  backlog {begin} to {end}, held back {held:.0} %",
        requests = whole(seen.requests_per_s),
        accepted = whole(seen.accepted_per_s),
        stored = whole(seen.stored_per_s),
        p50 = short(latency.p50_ms),
        p99 = short(latency.p99_ms),
        max = short(latency.max_ms),
        fresh = of(*freshness, freshness.p99_ms),
        begin = whole(seen.backlog_begin as f64),
        end = whole(seen.backlog_end as f64),
        held = seen.held_share * 100.0,
    );
    for (name, count) in [("refused", seen.refused), ("unanswered", seen.unanswered), ("unsent", seen.unsent)]
    {
        if count > 0 {
            text += &format!(", {count} {name}");
        }
    }
    text
}

/// What is known of a ceiling when it is found.
pub fn ceiling_line(seen: &Ceiling) -> String {
    format!(
        "   ceiling {:<35} {:>8}/s of {} events: {:>9} events/s",
        seen.name,
        whole(seen.per_s),
        whole(seen.events_per_batch as f64),
        whole(seen.events_per_s)
    )
}

/// Everything that is told on standard output at the end.
pub fn text(results: &Results) -> String {
    let mut text = String::new();
    for table in [ceilings(results), rates(results), times(results), costs(results), goal_table(results)] {
        text += &table.aligned();
        text.push('\n');
    }
    if results.is_quick {
        text += "A quick run: its figures only show that everything works.\n";
    }
    text
}

/// What the parts can do alone.
pub fn ceilings(results: &Results) -> Table {
    let row = |seen: &Ceiling| {
        vec![
            seen.name.clone(),
            whole(seen.events_per_batch as f64),
            whole(seen.per_s),
            whole(seen.events_per_s),
        ]
    };
    table(&["ceiling", "events each", "a second", "events/s"], results.ceilings.iter().map(row))
}

/// How much was taken.
pub fn rates(results: &Results) -> Table {
    let row = |seen: &Measurement| {
        let mut row = title(seen);
        row.extend([
            whole(seen.rows_before as f64),
            whole(seen.connections as f64),
            whole(seen.requests_per_s),
            whole(seen.accepted_per_s),
            whole(seen.stored_per_s),
            whole(seen.backlog_begin as f64),
            whole(seen.backlog_end as f64),
            format!("{:.0} %", seen.held_share * 100.0),
            whole((seen.refused + seen.unanswered + seen.unsent) as f64),
        ]);
        row
    };
    let head = [
        "scenario",
        "sent",
        "subject",
        "rows before",
        "connections",
        "requests/s",
        "accepted/s",
        "stored/s",
        "backlog at first",
        "at last",
        "held back",
        "failed",
    ];
    table(&head, results.measurements.iter().map(row))
}

/// How long it took.
pub fn times(results: &Results) -> Table {
    let row = |seen: &Measurement| {
        let mut row = title(seen);
        let latency = seen.latency;
        let times = [
            latency.mean_ms,
            latency.p50_ms,
            latency.p95_ms,
            latency.p99_ms,
            latency.p999_ms,
            latency.max_ms,
        ];
        row.extend(times.map(short));
        row.extend([
            of(seen.lateness, seen.lateness.p99_ms),
            of(seen.freshness, seen.freshness.p50_ms),
            of(seen.freshness, seen.freshness.p99_ms),
        ]);
        row
    };
    let head = [
        "scenario",
        "sent",
        "subject",
        "mean ms",
        "p50",
        "p95",
        "p99",
        "p99.9",
        "max",
        "generator late p99",
        "fresh p50",
        "fresh p99",
    ];
    table(&head, results.measurements.iter().map(row))
}

/// What it took of the machine.
pub fn costs(results: &Results) -> Table {
    let row = |seen: &Measurement| {
        let cpu = seen.cpu_s_per_million.iter().map(|(name, seconds)| format!("{name} {seconds:.1}"));
        let memory = seen
            .memory
            .iter()
            .map(|(name, memory)| format!("{name} {:.0} ({:.0})", memory.peak_mb, memory.end_mb));
        let mut row = title(seen);
        row.extend([
            cpu.collect::<Vec<_>>().join(", "),
            format!("{:.2}", seen.generator_processors),
            memory.collect::<Vec<_>>().join(", "),
            optional(seen.pending.map(|pending| pending.redis_bytes_per_event)),
            optional(seen.pending.map(|pending| pending.aof_bytes_per_event)),
            optional(seen.wal_bytes_per_event),
        ]);
        row
    };
    let head = [
        "scenario",
        "sent",
        "subject",
        "CPU s per million events",
        "generator's processors",
        "memory MB, peak (end)",
        "Redis B/event waiting",
        "AOF B/event",
        "WAL B/event",
    ];
    table(&head, results.measurements.iter().map(row))
}

/// What was to be reached.
pub fn goal_table(results: &Results) -> Table {
    let row = |goal: &Goal| {
        let wanted = match goal.wanted {
            Bound::AtLeast(wanted) => format!("≥ {}", figure(wanted)),
            Bound::Below(wanted) => format!("< {}", figure(wanted)),
        };
        let verdict = match goal.verdict() {
            Verdict::Reached => "reached".to_owned(),
            Verdict::Missed(share) => format!("NOT reached: {share:.2} of it"),
            Verdict::NotMeasured => "not measured".to_owned(),
        };
        let seen = goal.seen.map_or_else(|| "-".to_owned(), figure);
        vec![goal.what.clone(), format!("{wanted} {}", goal.unit), format!("{seen} {}", goal.unit), verdict]
    };
    table(&["goal", "wanted", "seen", "verdict"], goals(results).iter().map(row))
}

fn title(seen: &Measurement) -> Vec<String> {
    vec![seen.scenario.clone(), seen.part.clone(), seen.subject.word().to_owned()]
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    Table { head: head.iter().map(|name| (*name).to_owned()).collect(), rows: rows.collect() }
}

impl Table {
    /// With columns as wide as they must be; nothing when there are no rows.
    pub fn aligned(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.head.len()).map(width).collect();
        let line = |cells: &Vec<String>| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        lines().map(line).collect()
    }

    /// As Markdown; nothing when there are no rows.
    pub fn markdown(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let line = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|{}\n", "---|".repeat(self.head.len()));
        line(&self.head) + &rule + &self.rows.iter().map(line).collect::<String>()
    }
}

fn figure(value: f64) -> String {
    if value >= 1_000.0 { whole(value) } else { short(value) }
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), whole)
}

/// One of these times, when there are any.
fn of(times: Times, one_ms: f64) -> String {
    if times.count == 0 { "-".to_owned() } else { short(one_ms) }
}

/// Without fraction, in groups of three digits.
fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// With about three digits.
fn short(value: f64) -> String {
    match value {
        _ if value >= 100.0 => whole(value),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_so_that_they_can_be_read() {
        assert_eq!([whole(0.0), whole(999.6), whole(1_234_567.0)], ["0", "1,000", "1,234,567"]);
        assert_eq!([short(0.123), short(12.34), short(1_234.5)], ["0.12", "12.3", "1,234"]);
    }
}
