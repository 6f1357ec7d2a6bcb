//! Samples a subject during a load, and holds the generator back while the backlog is too large.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::error::BenchError;
use crate::load::{LiveCounters, Throttle};
use crate::process::{self, Process};
use crate::results::TimelinePoint;
use crate::subjects::EventsTable;

const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Accepted and unstored events at which a closed loop is held back: about a second's worth. Without the
/// limit, a subject could report accepted events that only make the backlog grow.
const BACKLOG_MAX: u64 = 300_000;

pub struct Monitor<'a> {
    pub table: &'a EventsTable,
    pub processes: &'a [Process],
    /// Events settled before the first request; `None` for a subject that stores before it accepts.
    pub settled_before: Option<u64>,
    pub live: &'a LiveCounters,
    /// Events accepted from the freshness probe.
    pub probed: &'a AtomicU64,
    /// The generator's throttle, if the load is to be held back.
    pub throttle: Option<Throttle>,
    pub begin: Instant,
}

#[derive(Debug, Default)]
pub struct Observations {
    pub timeline: Vec<TimelinePoint>,
    /// The highest resident memory, by process.
    pub peak_bytes: BTreeMap<&'static str, u64>,
    /// How long the generator was held back.
    pub held: Duration,
}

impl Monitor<'_> {
    /// Samples until `stopped` is true. The result has at least one sample.
    ///
    /// # Errors
    /// When the store cannot be queried.
    pub async fn run(self, mut stopped: watch::Receiver<bool>) -> Result<Observations, BenchError> {
        let mut observations = Observations::default();
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut is_held, mut last) = (false, Instant::now());
        while !*stopped.borrow() {
            let point = self.sample().await?;
            observations.timeline.push(point);
            observations.held += if is_held { last.elapsed() } else { Duration::ZERO };
            last = Instant::now();
            if let Some(throttle) = &self.throttle {
                let backlog = point.accepted.saturating_sub(point.stored);
                is_held = backlog > if is_held { BACKLOG_MAX / 2 } else { BACKLOG_MAX };
                throttle.hold(is_held);
            }
            for (name, usage) in process::usage(self.processes) {
                let peak = observations.peak_bytes.entry(name).or_default();
                *peak = usage.resident_bytes.max(*peak);
            }
            tokio::select! {
                _ = ticks.tick() => {}
                // The sender is dropped only after the measurement.
                _ = stopped.changed() => {}
            }
        }
        observations.timeline.push(self.sample().await?);
        Ok(observations)
    }

    async fn sample(&self) -> Result<TimelinePoint, BenchError> {
        let settled = match self.settled_before {
            Some(before) => Some(self.table.settled().await?.saturating_sub(before)),
            None => None,
        };
        let accepted = self.live.accepted() + self.probed.load(Ordering::Relaxed);
        let at_s = self.begin.elapsed().as_secs_f64();
        let stored = settled.unwrap_or(accepted);
        // A stored event counts as accepted, even if its answer has not arrived yet.
        Ok(TimelinePoint { at_s, accepted: accepted.max(stored), stored })
    }
}
