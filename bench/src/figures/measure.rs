//! One measurement from its first request until everything is stored.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::process::{self, Taken};
use super::watch::{Seen, Watched};
use super::{Measurement, Memory, Moment, Times, probe};
use crate::failure::Failure;
use crate::load::{self, Latency, Load, Measured, Pace, Tally};
use crate::patience::DRAINED;
use crate::subjects::Subject;

const MB: f64 = 1e6;
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// What it is called.
#[derive(Clone, Copy, Debug)]
pub struct Title<'a> {
    /// The scenario's name.
    pub scenario: &'a str,
    /// The part's.
    pub part: &'a str,
}

/// What was there before the first request.
struct Before {
    taken: BTreeMap<&'static str, Taken>,
    log_bytes: Option<u64>,
    settled: Option<u64>,
}

/// Sends the load, waits until all of it is stored, and tells what was seen.
///
/// # Errors
/// When the subject fails: refuses a probe, or never stores what it has accepted.
pub async fn measure(subject: &Subject, title: Title<'_>, load: &Load) -> Result<Measurement, Failure> {
    let processes = subject.processes();
    let settled = if subject.is_queued() { Some(subject.table.settled().await?) } else { None };
    let log_bytes = subject.table.log_bytes().await?;
    let before = Before { taken: process::look(&processes), log_bytes, settled };

    let running = load::start(load).await?;
    let (live, measured) = (std::sync::Arc::clone(running.live()), running.measured());
    let (stop, stopped) = watch::channel(false);
    let probed = AtomicU64::new(0);
    let watched = Watched {
        table: &subject.table,
        processes: &processes,
        settled_before: before.settled,
        live: &live,
        probed: &probed,
        valve: (load.pace == Pace::Closed && subject.is_queued()).then(|| running.valve()),
        begin: measured.begin,
    };
    let sending = async {
        let tally = running.finish().await;
        stop.send_replace(true);
        tally.map_err(Failure::from)
    };
    let probing = probe::probe(&load.target, &subject.table, &probed, measured.from, stopped.clone());
    let (tally, seen, freshness) = tokio::try_join!(sending, watched.look(stopped), probing)?;

    let accepted = live.accepted() + probed.load(Ordering::Relaxed);
    let drained_s = drain(subject, before.settled, accepted).await?;
    let after = process::look(&processes);
    let log_bytes = subject.table.log_bytes().await?;
    let found = Found { measured, tally, seen, freshness, accepted, repeated: live.repeated(), drained_s };
    Ok(told(subject, title, load, &before, found, &after, log_bytes))
}

/// Waits until everything accepted is stored, and returns how many seconds that took.
async fn drain(subject: &Subject, settled_before: Option<u64>, accepted: u64) -> Result<f64, Failure> {
    let started = Instant::now();
    let Some(before) = settled_before else { return Ok(0.0) };
    loop {
        let settled = subject.table.settled().await? - before;
        if settled == accepted {
            return Ok(started.elapsed().as_secs_f64());
        }
        if settled > accepted || started.elapsed() > DRAINED {
            return Err(Failure::new(format!("{accepted} events were accepted and {settled} settled")));
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

/// What was found while it ran.
struct Found {
    measured: Measured,
    tally: Tally,
    seen: Seen,
    freshness: Latency,
    accepted: u64,
    repeated: u64,
    drained_s: f64,
}

fn told(
    subject: &Subject,
    title: Title<'_>,
    load: &Load,
    before: &Before,
    found: Found,
    after: &BTreeMap<&'static str, Taken>,
    log_bytes: Option<u64>,
) -> Measurement {
    let Found { measured, tally, seen, freshness, accepted, repeated, drained_s } = found;
    let at_s = |moment: Instant| (moment - measured.begin).as_secs_f64();
    let (first, last) = (at(&seen.course, at_s(measured.from)), at(&seen.course, at_s(measured.until)));
    let (window_s, sent_s) = (load.window.as_secs_f64(), at_s(measured.until));
    let millions = accepted as f64 / 1e6;
    let cpu = |(name, taken): (&&'static str, &Taken)| {
        ((*name).to_owned(), (taken.cpu_s - before.taken[name].cpu_s) / millions)
    };
    let memory = |(name, taken): (&&'static str, &Taken)| {
        let peak = seen.peak_bytes.get(name).copied().unwrap_or(0).max(taken.resident_bytes);
        let memory = Memory { peak_mb: peak as f64 / MB, end_mb: taken.resident_bytes as f64 / MB };
        ((*name).to_owned(), memory)
    };
    let log_bytes = before.log_bytes.zip(log_bytes).map(|(before, after)| (after - before) as f64);
    Measurement {
        scenario: title.scenario.to_owned(),
        part: title.part.to_owned(),
        subject: subject.name,
        rows_before: 0,
        connections: load.connections,
        events_per_request: tally.events as f64 / (tally.requests.max(1)) as f64,
        window_s,
        requests_per_s: tally.requests as f64 / window_s,
        accepted_per_s: tally.events as f64 / window_s,
        stored_per_s: (last.stored - first.stored) as f64 / (last.at_s - first.at_s),
        backlog_begin: first.accepted - first.stored,
        backlog_end: last.accepted - last.stored,
        held_share: seen.held.as_secs_f64() / sent_s,
        latency: Times::from(&tally.latency),
        lateness: Times::from(&tally.lateness),
        freshness: Times::from(&freshness),
        refused: tally.refused,
        unanswered: tally.unanswered,
        unsent: tally.unsent,
        unanswered_events: tally.unanswered_events,
        generator_processors: tally.cpu_s / sent_s,
        cpu_s_per_million: after.iter().map(cpu).collect(),
        memory: after.iter().map(memory).collect(),
        wal_bytes_per_event: log_bytes.map(|bytes| bytes / accepted as f64),
        pending: None,
        drained_s,
        accepted,
        repeated,
        course: seen.course,
    }
}

/// The moment nearest to this one.
fn at(course: &[Moment], at_s: f64) -> Moment {
    let distance = |moment: &Moment| (moment.at_s - at_s).abs();
    *course.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).expect("it was looked at least once")
}
