//! Measures one part, from its first request until everything is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::monitor::{Monitor, Observations};
use super::{probe, timeline};
use crate::error::BenchError;
use crate::load::{self, LatencyHistogram, Load, Pacing, Schedule, Tally};
use crate::process::{self, ProcessUsage};
use crate::results::{LatencySummary, Measurement, MemoryUse};
use crate::subjects::Subject;
use crate::timeouts::BACKLOG_STORED;

const MB: f64 = 1e6;
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// The names under which a measurement is reported.
#[derive(Clone, Copy, Debug)]
pub struct Title<'a> {
    pub scenario: &'a str,
    pub part: &'a str,
    /// From 1.
    pub repetition: u32,
}

/// Counters of the subject at one moment.
struct Snapshot {
    usage: BTreeMap<&'static str, ProcessUsage>,
    wal_bytes: Option<u64>,
}

impl Snapshot {
    async fn take(subject: &Subject) -> Result<Self, BenchError> {
        let wal_bytes = subject.table.wal_bytes().await?;
        Ok(Self { usage: process::usage(&subject.processes()), wal_bytes })
    }
}

/// The raw numbers of one part.
struct RawNumbers {
    before: Snapshot,
    after: Snapshot,
    schedule: Schedule,
    tally: Tally,
    observations: Observations,
    freshness: LatencyHistogram,
    accepted: u64,
    repeated: u64,
    drained_s: f64,
}

/// Sends the load, and waits until everything accepted is stored.
///
/// # Errors
/// When the subject refuses a probe, does not store everything it has accepted, or cannot be queried.
pub async fn measure_part(
    subject: &Subject,
    title: Title<'_>,
    load: &Load,
) -> Result<Measurement, BenchError> {
    let processes = subject.processes();
    let settled_before = if subject.is_queued() { Some(subject.table.settled().await?) } else { None };
    let before = Snapshot::take(subject).await?;

    let running = load::start(load).await?;
    let (live, schedule) = (Arc::clone(running.live()), running.schedule());
    let (stop, stopped) = watch::channel(false);
    let probed = AtomicU64::new(0);
    let monitor = Monitor {
        table: &subject.table,
        processes: &processes,
        settled_before,
        live: &live,
        probed: &probed,
        throttle: (load.pacing == Pacing::ClosedLoop && subject.is_queued()).then(|| running.throttle()),
        begin: schedule.begin,
    };
    let sending = async {
        let tally = running.finish().await;
        stop.send_replace(true);
        tally.map_err(BenchError::from)
    };
    let probing =
        probe::freshness(&load.target, &subject.table, &probed, schedule.measured_from, stopped.clone());
    let (tally, observations, freshness) = tokio::try_join!(sending, monitor.run(stopped), probing)?;

    let accepted = live.accepted() + probed.load(Ordering::Relaxed);
    let drained_s = wait_until_stored(subject, settled_before, accepted).await?;
    let after = Snapshot::take(subject).await?;
    let repeated = live.repeated();
    let numbers =
        RawNumbers { before, after, schedule, tally, observations, freshness, accepted, repeated, drained_s };
    Ok(measurement(subject, title, load, numbers))
}

/// Waits until everything accepted is stored, and returns how many seconds that took.
async fn wait_until_stored(
    subject: &Subject,
    settled_before: Option<u64>,
    accepted: u64,
) -> Result<f64, BenchError> {
    let started = Instant::now();
    let Some(before) = settled_before else { return Ok(0.0) };
    loop {
        let settled = subject.table.settled().await? - before;
        if settled == accepted {
            return Ok(started.elapsed().as_secs_f64());
        }
        if settled > accepted || started.elapsed() > BACKLOG_STORED {
            return Err(BenchError::new(format!(
                "{} accepted {accepted} events and settled {settled} within {} s after the last answer; \
                 both numbers must be equal",
                subject.name.as_str(),
                started.elapsed().as_secs()
            )));
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

fn measurement(subject: &Subject, title: Title<'_>, load: &Load, numbers: RawNumbers) -> Measurement {
    let RawNumbers { before, after, schedule, tally, observations, .. } = numbers;
    let since_begin_s = |moment: Instant| (moment - schedule.begin).as_secs_f64();
    let first = timeline::nearest(&observations.timeline, since_begin_s(schedule.measured_from));
    let last = timeline::nearest(&observations.timeline, since_begin_s(schedule.end));
    let (window_s, sent_s) = (load.window.as_secs_f64(), since_begin_s(schedule.end));
    let millions = numbers.accepted as f64 / 1e6;
    let cpu = |(name, usage): (&&'static str, &ProcessUsage)| {
        ((*name).to_owned(), (usage.cpu_s - before.usage[name].cpu_s) / millions)
    };
    let memory = |(name, usage): (&&'static str, &ProcessUsage)| {
        let peak = observations.peak_bytes.get(name).copied().unwrap_or(0).max(usage.resident_bytes);
        let memory = MemoryUse { peak_mb: peak as f64 / MB, end_mb: usage.resident_bytes as f64 / MB };
        ((*name).to_owned(), memory)
    };
    let wal_bytes = before.wal_bytes.zip(after.wal_bytes).map(|(before, after)| (after - before) as f64);
    Measurement {
        scenario: title.scenario.to_owned(),
        part: title.part.to_owned(),
        subject: subject.name,
        repetition: title.repetition,
        rows_before: 0,
        connections: load.connections,
        events_per_request: tally.events as f64 / (tally.requests.max(1)) as f64,
        window_s,
        requests_per_s: tally.requests as f64 / window_s,
        accepted_per_s: tally.events as f64 / window_s,
        stored_per_s: (last.stored - first.stored) as f64 / (last.at_s - first.at_s),
        last_third: timeline::last_third(&observations.timeline, first.at_s, last.at_s),
        copy: None,
        backlog_begin: first.accepted - first.stored,
        backlog_end: last.accepted - last.stored,
        held_share: observations.held.as_secs_f64() / sent_s,
        latency: LatencySummary::from(&tally.latency),
        lateness: LatencySummary::from(&tally.lateness),
        freshness: LatencySummary::from(&numbers.freshness),
        refused: tally.refused,
        unanswered: tally.unanswered,
        unsent: tally.unsent,
        unanswered_events: tally.unanswered_events,
        generator_processors: tally.cpu_s / sent_s,
        cpu_s_per_million: after.usage.iter().map(cpu).collect(),
        memory: after.usage.iter().map(memory).collect(),
        wal_bytes_per_event: wal_bytes.map(|bytes| bytes / numbers.accepted as f64),
        pending: None,
        drained_s: numbers.drained_s,
        accepted: numbers.accepted,
        repeated: numbers.repeated,
        timeline: if title.repetition == 1 { timeline::thinned(observations.timeline) } else { Vec::new() },
    }
}
