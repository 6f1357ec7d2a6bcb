//! Waiting out an outage: longer each time, never in step with the other lanes, and told once.

use std::time::Duration;

use tokio::sync::watch;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);
/// A lasting outage is told again after this many attempts.
const TELL_EVERY: u32 = 30;

/// One outage after the other of one thing.
#[derive(Debug)]
pub struct Backoff {
    what: &'static str,
    failures: u32,
}

impl Backoff {
    /// `what` stands in the log, such as "the store".
    pub fn new(what: &'static str) -> Self {
        Self { what, failures: 0 }
    }

    /// Notes a failure and waits before the next attempt. Returns false, early, when the process is to stop.
    pub async fn wait(
        &mut self,
        error: &(dyn std::fmt::Display + Sync),
        shutdown: &mut watch::Receiver<bool>,
    ) -> bool {
        if self.failures.is_multiple_of(TELL_EVERY) {
            tracing::warn!(what = self.what, failures = self.failures, %error, "{}: {error}; trying again", self.what);
        }
        let longest = LONGEST.min(FIRST.saturating_mul(1 << self.failures.min(10)));
        self.failures += 1;
        let share = f64::from(rand_byte()) / 510.0;
        let pause = longest.mul_f64(0.5 + share);
        tokio::select! {
            () = tokio::time::sleep(pause) => !*shutdown.borrow(),
            () = stopped(shutdown) => false,
        }
    }

    /// Notes that it works.
    pub fn recovered(&mut self) {
        if self.failures > 0 {
            let failures = self.failures;
            tracing::info!(
                what = self.what,
                failures,
                "{}: works again after {failures} failures",
                self.what
            );
            self.failures = 0;
        }
    }
}

fn rand_byte() -> u8 {
    uuid::Uuid::new_v4().as_bytes()[0]
}

/// Returns when the process is to stop.
pub async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which only happens when the process ends.
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("nobody is left who could ask for a stop");
    }
}
