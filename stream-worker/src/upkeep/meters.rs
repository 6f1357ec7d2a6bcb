//! Meters: moves what writers added to the figures, and compares figures with events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_event::meter::BUCKET_US;
use millrace_store::{MeterInfo, SharedStore};
use tokio::sync::watch;

use super::schedule::Schedule;
use crate::backoff::stopped;
use crate::metrics;

/// Pause between two rounds. A longer one merges more additions into one change of a figure; a shorter one
/// leaves less for readers to add.
const PAUSE: Duration = Duration::from_secs(2);
/// A round ends when less than this was moved at once: the rest is what writers add meanwhile.
const MOVED_MIN: u64 = 1_000;
const CHECK_PERIOD: Duration = Duration::from_secs(60);
const CHECK_FIRST: Duration = Duration::from_secs(5);
/// Meters compared in one period. With more of them, each is compared less often.
const CHECKED_MAX: usize = 20;

/// Moves and compares until the process is to stop.
pub(super) async fn run(store: &SharedStore, mut shutdown: watch::Receiver<bool>) {
    let mut checks = Schedule::new(CHECK_PERIOD, CHECK_FIRST);
    let mut next = 0;
    while !*shutdown.borrow() {
        move_additions(store, &shutdown).await;
        if checks.is_due() {
            next = compare(store, next).await;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stopped(&mut shutdown) => {}
        }
    }
}

async fn move_additions(store: &SharedStore, shutdown: &watch::Receiver<bool>) {
    while !*shutdown.borrow() {
        match store.move_additions().await {
            Ok(moved) => {
                metrics::meter_rows_moved(moved);
                if moved < MOVED_MIN {
                    return;
                }
            }
            Err(error) => {
                metrics::meters_failed();
                tracing::debug!(%error, "additions to meters could not be moved");
                return;
            }
        }
    }
}

/// Compares the figures of some meters, from this one on, with the events of the last quarter of an hour that
/// is over. A difference is recorded and logged, never repaired. Returns the meter to begin with next.
async fn compare(store: &SharedStore, first: usize) -> usize {
    let meters = match store.meters(None).await {
        Ok(meters) => meters,
        Err(error) => {
            metrics::meters_failed();
            tracing::debug!(%error, "meters could not be read");
            return first;
        }
    };
    let first = if first < meters.len() { first } else { 0 };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let to_us = i64::try_from(now).unwrap_or(i64::MAX).div_euclid(BUCKET_US) * BUCKET_US;
    for info in meters.iter().skip(first).take(CHECKED_MAX) {
        compare_one(store, info, to_us - BUCKET_US, to_us).await;
    }
    first + CHECKED_MAX
}

async fn compare_one(store: &SharedStore, info: &MeterInfo, from_us: i64, to_us: i64) {
    match store.wrong_figures(&info.meter, from_us, to_us).await {
        Ok(wrong) => {
            metrics::meter_checked(wrong > 0);
            if wrong > 0 {
                let (project, slug) = (&info.project_name, &info.meter.definition.slug);
                tracing::error!(project, slug, wrong, "figures of a meter differ from the events");
            }
        }
        Err(error) => {
            metrics::meters_failed();
            tracing::debug!(%error, "figures of a meter could not be compared");
        }
    }
}
