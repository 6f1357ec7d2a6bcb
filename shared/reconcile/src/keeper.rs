//! The loop that keeps [`StreamHealth`] up to date, for the API and the worker.
//!
//! Durability is checked at the start, periodically and after every failure of the stream. The epoch is
//! compared with the store's record, and the counters are rebuilt when the two differ. The two checks never
//! wait for each other, because only one of them needs the store.

use std::time::Duration;

use futures_util::future::join_all;
use millrace_store::SharedStore;
use millrace_stream::{SharedStream, StreamError};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::epoch::{self, EpochCheck, EpochError};
use crate::health::{Durability, ShardHealth, StreamHealth};
use crate::replicas::ReplicaRecord;

/// The shortest pause between two checks, so that a stream that keeps failing is not checked in a tight loop.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// How long one comparison of epochs may take, including a rebuild of the counters. A store that does not
/// answer must not hold up the comparison forever; it can be dropped at any step and repeated.
const EPOCH_TIME_MAX: Duration = Duration::from_secs(60);

/// How long to wait between two checks. A failure of the stream cuts every one of these short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckPeriods {
    /// While the stream is durable.
    pub durable: Duration,
    /// While the stream is not durable; short, so that a corrected setting takes effect soon.
    pub undurable: Duration,
    /// After a durability check that failed.
    pub durability_retry: Duration,
    /// Until the epoch is trusted for the first time.
    pub epoch_first: Duration,
    /// While the epoch is trusted.
    pub epoch: Duration,
    /// After a comparison of epochs that failed.
    pub epoch_retry: Duration,
    /// Whether the process admits events, and so must be able to.
    pub admits: bool,
}

impl CheckPeriods {
    /// For a process that only admits events.
    pub const API: Self = Self {
        durable: Duration::from_secs(30),
        undurable: Duration::from_secs(2),
        durability_retry: Duration::from_millis(250),
        epoch_first: Duration::from_millis(250),
        epoch: Duration::from_secs(10),
        epoch_retry: Duration::from_millis(250),
        admits: true,
    };
    /// For a process that only drains the stream. Lanes wait for the first epoch.
    pub const WORKER: Self = Self {
        epoch_first: Duration::from_millis(50),
        epoch: Duration::from_secs(1),
        epoch_retry: Duration::from_secs(1),
        admits: false,
        ..Self::API
    };
    /// For a process that does both: the shorter of each.
    pub const STANDALONE: Self = Self { epoch_retry: Self::API.epoch_retry, admits: true, ..Self::WORKER };
}

/// What the checks of one shard need.
#[derive(Clone, Copy)]
struct ShardKeeper<'a> {
    shard: u16,
    health: &'a ShardHealth,
    stream: &'a SharedStream,
    store: &'a SharedStore,
    replicas: &'a ReplicaRecord,
    periods: CheckPeriods,
}

/// Checks the stream until `shutdown` is true; a check under way is finished first. Dropping the future stops
/// it, too. No shard waits for another.
pub async fn keep(
    health: &StreamHealth,
    stream: &SharedStream,
    store: &SharedStore,
    periods: CheckPeriods,
    shutdown: watch::Receiver<bool>,
) {
    let replicas = ReplicaRecord::new(stream.shards());
    let checks = health.shards().iter().map(|health| {
        let replicas = &replicas;
        let keeper = ShardKeeper { shard: health.number(), health, stream, store, replicas, periods };
        let (durability, epoch) = (shutdown.clone(), shutdown.clone());
        async move { tokio::join!(keeper.keep_durability(durability), keeper.keep_epoch(epoch)) }
    });
    join_all(checks).await;
}

impl ShardKeeper<'_> {
    async fn keep_durability(self, mut shutdown: watch::Receiver<bool>) {
        let Self { health, periods, .. } = self;
        let mut known = None;
        while !*shutdown.borrow() {
            let pause = match self.check_stream(&mut known).await {
                Ok(true) => periods.durable,
                Ok(false) | Err(StreamError::Full(_) | StreamError::Refused(_)) => periods.undurable,
                Err(_) => periods.durability_retry,
            };
            pause_for(health.durability_stale_within(pause), &mut shutdown).await;
        }
    }

    /// Whether the shard is durable. After an error, that is known or not as before: nothing was learned
    /// about the settings, or they are as they should be and the shard cannot take a batch. `known` is the
    /// last result.
    async fn check_stream(self, known: &mut Option<bool>) -> Result<bool, StreamError> {
        let Self { shard, health, stream, replicas, .. } = self;
        let generation = health.generation();
        let report = stream.durability_report(shard).await;
        let report = report.inspect_err(|error| health.stream_failed(error))?;
        let fault = replicas.observe(shard, &report, health.demanded());
        let mut faults: Vec<String> = report.faults.into_iter().chain(fault).collect();
        faults.dedup();
        let durable = faults.is_empty();
        let faults = faults.join("; ");
        let warning = report.warnings.join("; ");
        if health.record_warning(&warning) && !warning.is_empty() {
            tracing::warn!(shard, warning, "a setting of Redis can lose acknowledged events");
        }
        let is_news = health.record_faults(&faults);
        health.record_durability(generation, durable);
        if known.replace(durable) != Some(durable) || is_news {
            log_durability(health, durable, &faults, is_news);
        }
        if self.periods.admits {
            stream.check_writable(shard).await.inspect_err(|error| health.stream_failed(error))?;
        }
        health.stream_works();
        Ok(durable)
    }

    async fn keep_epoch(self, mut shutdown: watch::Receiver<bool>) {
        let Self { health, periods, .. } = self;
        let mut was_confirmed = None;
        while !*shutdown.borrow() {
            let confirmed = self.check_epoch(&mut was_confirmed).await;
            let pause = match (confirmed, was_confirmed) {
                (true, _) => periods.epoch,
                (false, Some(_)) => periods.epoch_retry,
                (false, None) => periods.epoch_first,
            };
            pause_for(health.epoch_stale_within(pause), &mut shutdown).await;
        }
    }

    /// Whether stream and store agree now.
    async fn check_epoch(self, was_confirmed: &mut Option<bool>) -> bool {
        let Self { shard, health, stream, store, replicas, .. } = self;
        let may_rebuild = || health.may_rebuild();
        let reconciling = async {
            // First, because an epoch that is trusted admits events.
            if replicas.read(store.as_ref(), shard).await? {
                health.mark_stale();
            }
            let checked = epoch::reconcile_shard(stream.as_ref(), store.as_ref(), shard, may_rebuild).await?;
            replicas.write(store.as_ref(), shard).await?;
            Ok(checked)
        };
        let result = timeout(EPOCH_TIME_MAX, reconciling).await.unwrap_or(Err(EpochError::Timeout));
        record_epoch_check(health, &result);
        log_epoch_check(health, result.as_ref().err(), was_confirmed);
        result.is_ok()
    }
}

/// Logs a change. Shards that have the same faults are one line.
fn log_durability(health: &ShardHealth, durable: bool, faults: &str, is_news: bool) {
    let shard = health.number();
    match (durable, health.demanded()) {
        (true, _) if health.are_all_durable() => tracing::info!("stream durability verified"),
        (true, _) => tracing::debug!(shard, "durability of the shard verified"),
        (false, _) if !is_news => {}
        (false, Durability::Strict | Durability::Replicated { .. }) => {
            tracing::error!(
                shard,
                faults,
                "the stream is not as durable as DURABILITY demands; the API refuses events"
            );
        }
        (false, Durability::Relaxed) => {
            tracing::warn!(shard, faults, "the stream is not durable; acknowledged events can be lost");
        }
    }
}

/// While the stream or the store cannot be reached, nothing can be compared, and the trust in the epoch does
/// not change: the stream itself refuses every call under another epoch.
fn record_epoch_check(health: &ShardHealth, result: &Result<EpochCheck, EpochError>) {
    match result {
        Ok(_) => health.record_epoch(true),
        Err(
            EpochError::Conflict { .. }
            | EpochError::Forbidden { .. }
            | EpochError::RolledBack { .. }
            | EpochError::Shards { .. },
        ) => {
            health.record_epoch(false);
        }
        Err(EpochError::Stream(_) | EpochError::Store(_) | EpochError::Timeout) => {}
    }
}

/// Logs a change. `was_confirmed` is the last result since the epoch was confirmed for the first time, `None`
/// before.
fn log_epoch_check(health: &ShardHealth, error: Option<&EpochError>, was_confirmed: &mut Option<bool>) {
    let Some(error) = error else {
        health.record_epoch_fault(None);
        if was_confirmed.replace(true) != Some(true) {
            match health.are_all_trusted() {
                true => tracing::info!("stream epoch confirmed"),
                false => tracing::debug!(shard = health.number(), "epoch of the shard confirmed"),
            }
        }
        return;
    };
    let is_news = health.record_epoch_fault(Some(&error.without_addresses()));
    let lost = *was_confirmed == Some(true);
    if lost {
        *was_confirmed = Some(false);
    }
    match error {
        // The check of the stream has the same reason to log.
        EpochError::Stream(error) => health.note_failure(error),
        EpochError::Store(_) | EpochError::Timeout if is_news => {
            tracing::warn!(%error, "stream epoch could not be confirmed");
        }
        EpochError::RolledBack { .. } if is_news => {
            tracing::error!(%error, "stream epoch could not be confirmed");
        }
        EpochError::Shards { .. } if is_news => tracing::error!(%error, "this process serves nothing"),
        // While several processes start, or until the durability of the stream is verified.
        EpochError::Conflict { .. } | EpochError::Forbidden { .. } if lost => {
            tracing::warn!(%error, "stream epoch could not be confirmed");
        }
        _ => tracing::debug!(%error, "stream epoch is still not confirmed"),
    }
}

/// Waits until the next check is due, or until the process is to stop.
async fn pause_for(next_check: impl Future<Output = ()>, shutdown: &mut watch::Receiver<bool>) {
    let pause = async {
        sleep(PAUSE_MIN).await;
        next_check.await;
    };
    tokio::select! {
        () = pause => {}
        // An error means that the sender is gone, and with it the process.
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

#[cfg(test)]
mod tests {
    use millrace_store::StoreError;

    use super::*;

    #[test]
    fn an_epoch_stays_trusted_during_outages_and_until_its_rebuild_conflicts_with_another() {
        let health = StreamHealth::new(Durability::Strict, 1);
        let health = health.shard(0);
        let store_away = || Err(EpochError::Store(StoreError::Unavailable("away".to_owned())));
        let stream_away = || Err(EpochError::Stream(StreamError::Unavailable("away".to_owned())));
        record_epoch_check(health, &store_away());
        assert!(!health.is_epoch_trusted());
        record_epoch_check(health, &Ok(EpochCheck::Rebuild(1)));
        assert!(health.is_epoch_trusted());
        record_epoch_check(health, &store_away());
        record_epoch_check(health, &stream_away());
        assert!(health.is_epoch_trusted());
        record_epoch_check(health, &Err(EpochError::Conflict { shard: 0 }));
        assert!(!health.is_epoch_trusted());
    }

    #[test]
    fn a_process_that_admits_and_drains_checks_as_often_as_either_of_the_two() {
        let (api, worker, both) = (CheckPeriods::API, CheckPeriods::WORKER, CheckPeriods::STANDALONE);
        let shortest = CheckPeriods {
            admits: api.admits || worker.admits,
            durable: api.durable.min(worker.durable),
            undurable: api.undurable.min(worker.undurable),
            durability_retry: api.durability_retry.min(worker.durability_retry),
            epoch_first: api.epoch_first.min(worker.epoch_first),
            epoch: api.epoch.min(worker.epoch),
            epoch_retry: api.epoch_retry.min(worker.epoch_retry),
        };
        assert_eq!(both, shortest);
    }
}
