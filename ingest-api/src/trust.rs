//! May the stream be trusted? Its durability is checked at the start, every 30 seconds and after every doubt, and until
//! then a doubt stands: who answers next may be another server, or the same one with other settings. Its epoch is compared
//! with the store's record, and its counters are rebuilt when they differ.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use millrace_reconcile::epoch::{self, EpochError};
use millrace_settings::Durability;
use millrace_store::SharedStore;
use millrace_stream::SharedStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Between two checks of durability while nothing is in doubt.
const DURABILITY_EVERY: Duration = Duration::from_secs(30);
/// Between two comparisons of epochs while nothing is in doubt.
const EPOCH_EVERY: Duration = Duration::from_secs(10);
/// The same while it is found wanting: whoever has mended it should not have to wait.
const UNDURABLE_EVERY: Duration = Duration::from_secs(2);
/// After a check that could not be made.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Between two checks, whatever happens.
const ROUND_PAUSE: Duration = Duration::from_millis(20);
/// How long one comparison may take, a rebuild of the counters included.
const EPOCH_TIME_MAX: Duration = Duration::from_secs(60);

/// What is known of the stream.
#[derive(Debug)]
pub struct Trust {
    demanded: Durability,
    /// How often the stream's durability was in doubt, the start included.
    doubts: AtomicU64,
    /// The doubt that the last check has dispelled; 0 is none.
    dispelled: AtomicU64,
    /// What was said of durability last, so that it is said once.
    durability_told: Mutex<Option<bool>>,
    epoch: AtomicBool,
    durability_doubt: Notify,
    epoch_doubt: Notify,
}

impl Trust {
    /// Nothing is trusted yet.
    pub fn new(demanded: Durability) -> Self {
        Self {
            demanded,
            doubts: AtomicU64::new(1),
            dispelled: AtomicU64::new(0),
            durability_told: Mutex::default(),
            epoch: AtomicBool::new(false),
            durability_doubt: Notify::new(),
            epoch_doubt: Notify::new(),
        }
    }

    /// Whether an admission would be as durable as it must be. Before the first check, and from a doubt to the check that
    /// follows it, it is not known to be.
    pub fn durable_enough(&self) -> bool {
        let is_certain = || self.dispelled.load(Ordering::Relaxed) == self.doubts.load(Ordering::Relaxed);
        self.demanded == Durability::Relaxed || is_certain()
    }

    /// Whether stream and store were of one epoch when last seen.
    pub fn epoch_agreed(&self) -> bool {
        self.epoch.load(Ordering::Relaxed)
    }

    /// The stream was away, or said that it is another: look at it again, now.
    pub fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
        self.durability_doubt.notify_one();
        self.epoch_doubt.notify_one();
    }

    /// The stream said that its epoch is another one.
    pub fn doubt_epoch(&self) {
        self.epoch.store(false, Ordering::Relaxed);
        millrace_reconcile::metrics::epoch_trusted(false);
        self.doubt();
    }

    /// Checks for ever. Never returns. The two checks do not wait for each other: only one of them needs the store.
    pub async fn keep(&self, stream: &SharedStream, store: &SharedStore) -> std::convert::Infallible {
        let durability = async {
            loop {
                let pause = match self.check_durability(stream).await {
                    Some(true) => DURABILITY_EVERY,
                    Some(false) => UNDURABLE_EVERY,
                    None => RETRY_PAUSE,
                };
                doubted_within(&self.durability_doubt, pause).await;
            }
        };
        let epoch = async {
            loop {
                let agreed = self.check_epoch(stream, store).await;
                let pause = if agreed { EPOCH_EVERY } else { RETRY_PAUSE };
                doubted_within(&self.epoch_doubt, pause).await;
            }
        };
        tokio::select! {
            never = durability => never,
            never = epoch => never,
        }
    }

    /// Whether the stream is durable; `None` when that could not be checked. Only a change is told.
    async fn check_durability(&self, stream: &SharedStream) -> Option<bool> {
        // A doubt that comes up while the stream is asked is not dispelled by what it answers.
        let doubt = self.doubts.load(Ordering::Relaxed);
        let faults = stream.durability_faults().await.ok()?;
        let durable = faults.is_empty();
        millrace_reconcile::metrics::durability_checked(durable);
        self.dispelled.store(if durable { doubt } else { 0 }, Ordering::Relaxed);
        let mut told = self.durability_told.lock().expect("nobody panics with the lock");
        if told.replace(durable) == Some(durable) {
            return Some(durable);
        }
        let faults = faults.join("; ");
        match (durable, self.demanded) {
            (true, _) => tracing::info!("acknowledged means on disk"),
            (false, Durability::Strict) => {
                tracing::error!(faults, "nothing is accepted, because it could be lost: {faults}");
            }
            (false, Durability::Relaxed) => {
                tracing::warn!(faults, "acknowledged events can be lost: {faults}");
            }
        }
        Some(durable)
    }

    /// Whether stream and store agree now.
    async fn check_epoch(&self, stream: &SharedStream, store: &SharedStore) -> bool {
        let reconciling = epoch::reconcile(stream.as_ref(), store.as_ref());
        // It can be given up at any step and begun anew; a store that says nothing must not hold it for ever.
        let Ok(reconciled) = timeout(EPOCH_TIME_MAX, reconciling).await else { return false };
        match reconciled {
            Ok(_) => {
                self.epoch.store(true, Ordering::Relaxed);
                millrace_reconcile::metrics::epoch_trusted(true);
                true
            }
            // Without the store nothing can be compared; what was trusted goes on being trusted, because the stream
            // itself refuses every call under another epoch.
            Err(EpochError::Store(_) | EpochError::Stream(_)) => false,
            Err(error @ EpochError::Moved { .. }) => {
                tracing::info!(%error, "the epoch is not settled yet: {error}");
                false
            }
        }
    }
}

/// Returns when there is doubt, or after `at_most`.
async fn doubted_within(doubt: &Notify, at_most: Duration) {
    sleep(ROUND_PAUSE).await;
    // Either way it is time to look again.
    drop(timeout(at_most, doubt.notified()).await);
}
