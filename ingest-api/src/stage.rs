//! The stages of a server's life: it serves, drains, and closes the remaining connections.

use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    Serving,
    /// Not ready any more. Every answer is the last one of its connection.
    Draining,
    /// Idle connections are closed, too.
    Closing,
}

/// Returns when the server has reached this stage or a later one.
pub async fn reached(mut stage: watch::Receiver<Stage>, at_least: Stage) {
    if stage.wait_for(|stage| *stage >= at_least).await.is_err() {
        tracing::debug!("the server ended before the stage {at_least:?}");
    }
}
