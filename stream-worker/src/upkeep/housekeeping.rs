//! Housekeeping: partitions, retention and silent consumers in rounds, and the checks whose results are
//! gauges.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_reconcile::quota;
use millrace_store::{SharedStore, UpkeepPolicy};
use millrace_stream::{Backlog, SharedStream};
use tokio::sync::watch;

use super::conservation;
use super::schedule::Schedule;
use crate::backoff::stopped;
use crate::config::Settings;
use crate::metrics;

/// How often the loop looks whether a round or a check is due.
const TICK: Duration = Duration::from_secs(1);
const CHECK_PERIOD: Duration = Duration::from_secs(60);
/// Until the first checks. They come early because a process that just started should show its gauges soon.
const CHECK_FIRST: Duration = Duration::from_secs(5);
/// A consumer that has been silent this long and has nothing pending is removed.
const CONSUMER_IDLE_MAX: Duration = Duration::from_secs(3_600);

/// Runs rounds and checks until the process is to stop.
pub(super) async fn run(
    stream: &SharedStream,
    store: &SharedStore,
    settings: &Settings,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut round = Schedule::new(settings.upkeep_interval, Duration::ZERO);
    let mut checks = Schedule::new(CHECK_PERIOD, CHECK_FIRST);
    let tick = TICK.min(settings.upkeep_interval);
    while !*shutdown.borrow() {
        if round.is_due() {
            maintain_store(stream, store, settings).await;
            retire_consumers(stream).await;
        }
        if checks.is_due() {
            conservation::check(stream, store).await;
            measure_quotas(stream, store).await;
            measure_redrives(store).await;
        }
        tokio::select! {
            () = tokio::time::sleep(tick) => {}
            () = stopped(&mut shutdown) => {}
        }
    }
}

async fn maintain_store(stream: &SharedStream, store: &SharedStore, settings: &Settings) {
    let policy = UpkeepPolicy {
        retention_days: settings.retention_days,
        ledger_days: settings.ledger_days,
        oldest_pending_ms: oldest_pending_ms(stream.backlog().await.ok()),
        transaction_age_max: settings.transaction_age_max,
    };
    match store.upkeep(&policy).await {
        Ok(Some(report)) => metrics::upkeep_done(report),
        Ok(None) => {}
        Err(error) => {
            metrics::upkeep_failed();
            tracing::warn!(%error, "upkeep of the store failed; trying again");
        }
    }
}

/// When the oldest pending entry was received, in milliseconds since 1970. `None` when nothing is pending,
/// and 0 when the backlog is not known, so that no day of the ledger is retired that a pending entry may
/// need.
fn oldest_pending_ms(backlog: Option<Backlog>) -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now_ms = u64::try_from(now).unwrap_or_default();
    match backlog {
        Some(Backlog { entries: 0, .. }) => None,
        Some(backlog) => Some(now_ms.saturating_sub(backlog.oldest_age_ms)),
        None => Some(0),
    }
}

async fn retire_consumers(stream: &SharedStream) {
    for shard in 0..stream.shards() {
        match stream.retire_consumers(shard, CONSUMER_IDLE_MAX).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(shard, count, "removed silent consumers"),
            Err(error) => tracing::debug!(shard, %error, "silent consumers could not be removed"),
        }
    }
}

async fn measure_quotas(stream: &SharedStream, store: &SharedStore) {
    match quota::near_end(stream.as_ref(), store.as_ref()).await {
        Ok(projects) => metrics::quota_projects(projects),
        Err(error) => tracing::debug!(%error, "quotas could not be measured"),
    }
}

/// Reports the last redrive here, because the operator's command that redrives is never scraped.
async fn measure_redrives(store: &SharedStore) {
    match store.redrives(1).await {
        Ok(redrives) => {
            let started = redrives.first().map(|redrive| redrive.started_at.unix_timestamp());
            metrics::last_redrive(started.unwrap_or_default() as f64);
        }
        Err(error) => tracing::debug!(%error, "redrives could not be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_backlog_protects_every_day_of_the_ledger() {
        assert_eq!(oldest_pending_ms(None), Some(0));
        assert_eq!(oldest_pending_ms(Some(Backlog::default())), None);
        let minute_old = Backlog { entries: 1, oldest_age_ms: 60_000, ..Backlog::default() };
        assert!(oldest_pending_ms(Some(minute_old)).is_some_and(|ms| ms > 0));
    }
}
