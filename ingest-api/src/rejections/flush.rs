//! Writes reports to the store in the background, and once more at the end of a stop.

use std::convert::Infallible;
use std::time::Duration;

use millrace_store::{SharedStore, StoreError};

use super::collector::Collector;

/// Between two reports. A process that is killed loses what it refused since its last one.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// Classes of SQLSTATEs that say that the data is at fault, and not the environment: data exceptions, and
/// limits of the program.
const DATA_FAULTS: [&str; 2] = ["22", "54"];

/// Writes a report every two seconds, if something was refused. Never returns.
pub async fn keep_flushing(collector: &Collector, store: &SharedStore) -> Infallible {
    let mut failing = false;
    loop {
        tokio::time::sleep(FLUSH_EVERY).await;
        match flush(collector, store).await {
            Ok(()) if failing => {
                tracing::info!("writing what was refused works again");
                failing = false;
            }
            Err(error) if !failing => {
                tracing::warn!(%error, "cannot write to the store what was refused; keeping the counts");
                failing = true;
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// Writes everything that is left.
///
/// # Errors
/// [`StoreError`]; what is left is lost with the process.
pub async fn flush_rest(collector: &Collector, store: &SharedStore) -> Result<(), StoreError> {
    // The first report may be one that was not confirmed. The second has all that was refused since.
    flush(collector, store).await?;
    flush(collector, store).await
}

async fn flush(collector: &Collector, store: &SharedStore) -> Result<(), StoreError> {
    let Some(report) = collector.report() else { return Ok(()) };
    let written = store.add_rejections(&report).await;
    match &written {
        Ok(()) => collector.confirm(&report),
        Err(StoreError::Refused { sqlstate, .. })
            if DATA_FAULTS.iter().any(|class| sqlstate.starts_with(class)) =>
        {
            collector.drop_samples(&report);
        }
        Err(_) => {}
    }
    written
}
