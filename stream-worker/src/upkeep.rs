//! Everything that is not on an event's path: the epoch, durability, the backlog's gauges, consumers that are gone,
//! partitions and retention, and the conservation check. Nothing here ever waits for a lane or makes one wait.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::metrics::{self, Conservation};
use millrace_reconcile::audit::{self, Balance};
use millrace_reconcile::epoch::{self, EpochError};
use millrace_reconcile::quota;
use millrace_settings::Durability;
use millrace_store::{SharedStore, UpkeepPolicy};
use millrace_stream::{Backlog, SharedStream};
use tokio::sync::watch;

use crate::backoff::stopped;
use crate::config::Settings;

/// How often the epochs are compared.
const EPOCH_EVERY: Duration = Duration::from_secs(1);
/// The same until it is known for the first time: lanes wait for it.
const EPOCH_EVERY_AT_FIRST: Duration = Duration::from_millis(50);
/// How often the backlog is measured.
const GAUGES_EVERY: Duration = Duration::from_secs(1);
/// How often it is asked whether a round of upkeep is due.
const HOUSE_TICK: Duration = Duration::from_secs(1);
/// How often the stream's durability settings are read.
const DURABILITY_EVERY: Duration = Duration::from_secs(30);
/// How often accepted and stored events are compared, and quotas looked at.
const CONSERVATION_EVERY: Duration = Duration::from_secs(60);
/// When they are for the first time: a running system is to be looked at.
const CONSERVATION_FIRST: Duration = Duration::from_secs(5);
/// A consumer silent for so long, with nothing pending, is gone.
const CONSUMER_GONE: Duration = Duration::from_secs(3_600);

/// The upkeep of one process.
pub struct Upkeep {
    stream: SharedStream,
    store: SharedStore,
    settings: Arc<Settings>,
}

/// Something that comes round again.
struct Every {
    period: Duration,
    last: Option<Instant>,
}

impl Every {
    fn new(period: Duration) -> Self {
        Self { period, last: None }
    }

    /// Due for the first time after this, which is shorter than the period.
    fn beginning_after(period: Duration, first: Duration) -> Self {
        Self { period, last: Instant::now().checked_sub(period - first) }
    }

    fn is_due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= self.period);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}

impl Upkeep {
    /// Nothing happens before [`Upkeep::run`].
    pub fn new(stream: SharedStream, store: SharedStore, settings: Arc<Settings>) -> Self {
        Self { stream, store, settings }
    }

    /// Runs until the process is to stop, in three that do not wait for each other: a round of retention can take long,
    /// and a store that stands still holds it up, but lanes cannot settle while the epoch is in doubt, and a backlog is
    /// looked at most when the store stands still. `epoch_known` becomes true when stream and store have agreed for
    /// the first time.
    pub async fn run(self, epoch_known: watch::Sender<bool>, shutdown: watch::Receiver<bool>) {
        let (stream, store) = (Arc::clone(&self.stream), Arc::clone(&self.store));
        let keeper = EpochKeeper { stream, store, trusted: false, known: epoch_known };
        tokio::join!(
            keeper.run(shutdown.clone()),
            self.watch_stream(shutdown.clone()),
            self.keep_house(shutdown)
        );
    }

    /// What can be told without the store.
    async fn watch_stream(&self, mut shutdown: watch::Receiver<bool>) {
        let mut durability = Every::new(DURABILITY_EVERY);
        while !*shutdown.borrow() {
            if let Ok(backlog) = self.stream.backlog().await {
                metrics::backlog(backlog);
            }
            if durability.is_due() {
                self.check_durability().await;
            }
            tokio::select! {
                () = tokio::time::sleep(GAUGES_EVERY) => {}
                () = stopped(&mut shutdown) => {}
            }
        }
    }

    async fn keep_house(&self, mut shutdown: watch::Receiver<bool>) {
        let mut round = Every::new(self.settings.upkeep_interval);
        let mut conservation = Every::beginning_after(CONSERVATION_EVERY, CONSERVATION_FIRST);
        let tick = HOUSE_TICK.min(self.settings.upkeep_interval);
        while !*shutdown.borrow() {
            if round.is_due() {
                self.round(self.stream.backlog().await.ok()).await;
            }
            if conservation.is_due() {
                self.check_conservation().await;
                self.look_at_quotas().await;
                self.look_at_redrives().await;
            }
            tokio::select! {
                () = tokio::time::sleep(tick) => {}
                () = stopped(&mut shutdown) => {}
            }
        }
    }

    async fn check_durability(&self) {
        let Ok(faults) = self.stream.durability_faults().await else { return };
        millrace_reconcile::metrics::durability_checked(faults.is_empty());
        let strict = self.settings.durability == Durability::Strict;
        for fault in faults.iter().filter(|_| strict) {
            tracing::error!(fault, "acknowledged events may be lost: {fault}");
        }
    }

    async fn round(&self, backlog: Option<Backlog>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now_ms = u64::try_from(now).unwrap_or_default();
        let oldest_pending_ms = match backlog {
            Some(Backlog { entries: 0, .. }) => None,
            Some(backlog) => Some(now_ms.saturating_sub(backlog.oldest_age_ms)),
            None => Some(0),
        };
        let policy = UpkeepPolicy {
            retention_days: self.settings.retention_days,
            ledger_days: self.settings.ledger_days,
            oldest_pending_ms,
            transaction_age_max: self.settings.transaction_age_max,
        };
        match self.store.upkeep(&policy).await {
            Ok(Some(report)) => metrics::upkeep_done(report),
            Ok(None) => {}
            Err(error) => {
                metrics::upkeep_failed();
                tracing::warn!(%error, "upkeep of the store: {error}; trying again");
            }
        }
        for shard in 0..self.stream.shards() {
            match self.stream.retire_consumers(shard, CONSUMER_GONE).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(shard, count, "{count} consumers that are gone were retired"),
                Err(error) => tracing::debug!(shard, %error, "consumers were not retired: {error}"),
            }
        }
    }

    async fn look_at_quotas(&self) {
        match quota::near_end(self.stream.as_ref(), self.store.as_ref()).await {
            Ok(projects) => metrics::quota_projects(projects),
            Err(error) => tracing::debug!(%error, "quotas were not looked at: {error}"),
        }
    }

    /// Dead letters are driven again by an operator's command, which nobody scrapes.
    async fn look_at_redrives(&self) {
        match self.store.redrives(1).await {
            Ok(redrives) => {
                let started = redrives.first().map(|redrive| redrive.started_at.unix_timestamp());
                metrics::last_redrive(started.unwrap_or_default() as f64);
            }
            Err(error) => tracing::debug!(%error, "redrives were not looked at: {error}"),
        }
    }

    /// The same comparison as the operator's audit, without counting the tables.
    async fn check_conservation(&self) {
        let balances = match audit::audit(self.stream.as_ref(), self.store.as_ref(), false).await {
            Ok(balances) => balances,
            Err(error) => {
                metrics::conservation_failed();
                tracing::debug!(%error, "conservation was not checked: {error}");
                return;
            }
        };
        let broken: Vec<_> = balances.iter().filter(|balance| !balance.holds()).collect();
        metrics::conservation_checked(&sum_of(&balances));
        for balance in broken {
            let project = balance.project;
            for violation in &balance.violations {
                let (rule, difference) = (violation.rule.sentence(), violation.difference());
                tracing::error!(%project, rule, %difference, "project {project}: {rule} is off by {difference}");
            }
        }
    }
}

fn sum_of(balances: &[Balance]) -> Conservation {
    let mut sum = Conservation { projects: balances.len() as u64, ..Conservation::default() };
    for balance in balances {
        sum.broken += u64::from(!balance.holds());
        sum.accepted += balance.accepted;
        sum.stored += balance.stored;
        sum.duplicate += balance.duplicate;
        sum.dead += balance.dead;
        sum.pending += balance.pending;
    }
    sum
}

/// Sees to it that stream and store are of one epoch.
struct EpochKeeper {
    stream: SharedStream,
    store: SharedStore,
    trusted: bool,
    known: watch::Sender<bool>,
}

impl EpochKeeper {
    async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        while !*shutdown.borrow() {
            self.keep_epoch().await;
            let pause = if *self.known.borrow() { EPOCH_EVERY } else { EPOCH_EVERY_AT_FIRST };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(&mut shutdown) => {}
            }
        }
    }

    /// Settling needs a trusted epoch, so a worker makes sure of it as the API does.
    async fn keep_epoch(&mut self) {
        match epoch::reconcile(self.stream.as_ref(), self.store.as_ref()).await {
            Ok(_) => {
                self.known.send_replace(true);
                millrace_reconcile::metrics::epoch_trusted(true);
                self.trusted = true;
            }
            Err(error) => {
                if std::mem::take(&mut self.trusted) {
                    tracing::warn!(%error, "the stream's epoch cannot be confirmed: {error}");
                }
                // While one of them is away nothing is known to have changed.
                if matches!(error, EpochError::Moved { .. }) {
                    millrace_reconcile::metrics::epoch_trusted(false);
                }
            }
        }
    }
}
