//! Looks at a subject while it works, and holds the generator back when more waits than shall.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Moment;
use super::process::{self, Process};
use crate::failure::Failure;
use crate::load::{Live, Valve};
use crate::subjects::Table;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Events that may wait before a generator without a pace of its own is held back: about a second's worth. What could be
/// accepted on top of what is stored would only pile up.
const BACKLOG_MAX: u64 = 300_000;

/// What is looked at.
pub struct Watched<'a> {
    pub table: &'a Table,
    pub processes: &'a [Process],
    /// Events the table counted as settled before the first request; `None` when accepting is storing.
    pub settled_before: Option<u64>,
    pub live: &'a Live,
    /// Events accepted of others than the generator.
    pub probed: &'a AtomicU64,
    /// The generator's, when it is to be held back.
    pub valve: Option<Valve>,
    pub begin: Instant,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub course: Vec<Moment>,
    pub peak_bytes: BTreeMap<&'static str, u64>,
    pub held: Duration,
}

impl Watched<'_> {
    /// Looks until told to stop.
    pub async fn look(self, mut stopped: watch::Receiver<bool>) -> Result<Seen, Failure> {
        let mut seen = Seen::default();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut is_held, mut last) = (false, Instant::now());
        while !*stopped.borrow() {
            let moment = self.moment().await?;
            seen.course.push(moment);
            seen.held += if is_held { last.elapsed() } else { Duration::ZERO };
            last = Instant::now();
            if let Some(valve) = &self.valve {
                let waits = moment.accepted.saturating_sub(moment.stored);
                is_held = waits > if is_held { BACKLOG_MAX / 2 } else { BACKLOG_MAX };
                valve.hold(is_held);
            }
            for (name, taken) in process::look(self.processes) {
                let peak = seen.peak_bytes.entry(name).or_default();
                *peak = taken.resident_bytes.max(*peak);
            }
            tokio::select! {
                _ = ticks.tick() => {}
                // The sender lives as long as the measurement.
                _ = stopped.changed() => {}
            }
        }
        seen.course.push(self.moment().await?);
        Ok(seen)
    }

    /// An event may be stored while its answer is still on the way: then it was accepted, too.
    async fn moment(&self) -> Result<Moment, Failure> {
        let settled = match self.settled_before {
            Some(before) => Some(self.table.settled().await?.saturating_sub(before)),
            None => None,
        };
        let accepted = self.live.accepted() + self.probed.load(Ordering::Relaxed);
        let at_s = self.begin.elapsed().as_secs_f64();
        let stored = settled.unwrap_or(accepted);
        Ok(Moment { at_s, accepted: accepted.max(stored), stored })
    }
}
