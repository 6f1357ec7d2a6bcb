//! Waits between attempts during an outage: exponentially longer, with jitter, and with few log lines.

use std::time::Duration;

use tokio::sync::watch;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);
/// The first failure of an outage is logged, and then every one after this many.
const LOG_EVERY: u32 = 30;

/// The failures of one action in a row.
#[derive(Debug)]
pub struct Backoff {
    action: &'static str,
    failures: u32,
}

impl Backoff {
    /// `action` is the subject of the log lines, such as "writing to the store".
    pub fn new(action: &'static str) -> Self {
        Self { action, failures: 0 }
    }

    /// Records a failure and waits before the next attempt. Returns false, early, when the process is to
    /// stop.
    pub async fn wait(
        &mut self,
        error: &(dyn std::fmt::Display + Sync),
        shutdown: &mut watch::Receiver<bool>,
    ) -> bool {
        if self.failures.is_multiple_of(LOG_EVERY) {
            tracing::warn!(failures = self.failures + 1, %error, "{} failed; trying again", self.action);
        }
        let longest = LONGEST.min(FIRST.saturating_mul(1 << self.failures.min(10)));
        self.failures += 1;
        let pause = longest.mul_f64(rand::random_range(0.5..=1.0));
        tokio::select! {
            () = tokio::time::sleep(pause) => !*shutdown.borrow(),
            () = stopped(shutdown) => false,
        }
    }

    /// Records a success.
    pub fn recovered(&mut self) {
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "{} works again", self.action);
            self.failures = 0;
        }
    }
}

/// Returns when the process is to stop.
pub async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which only happens when the process ends.
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the sender of the stop signal is gone");
    }
}
