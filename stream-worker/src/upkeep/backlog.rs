//! The gauges of the backlog, measured without the store.

use std::time::Duration;

use millrace_stream::SharedStream;
use tokio::sync::watch;

use crate::backoff::stopped;
use crate::metrics;

const PERIOD: Duration = Duration::from_secs(1);

/// Measures the backlog until the process is to stop.
pub(super) async fn measure(stream: &SharedStream, mut shutdown: watch::Receiver<bool>) {
    while !*shutdown.borrow() {
        if let Ok(backlog) = stream.backlog().await {
            metrics::backlog(backlog);
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stopped(&mut shutdown) => {}
        }
    }
}
