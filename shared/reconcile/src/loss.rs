//! Names the batches that a stream has lost. It must never name one that is in the store.

use std::collections::{BTreeSet, HashSet};

use millrace_event::AcknowledgedBatch;
use millrace_store::{Store, StoreError};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::metrics;

/// Records these batches and logs them once. Another process may have acknowledged and recorded them, too.
pub(crate) async fn record(
    store: &dyn Store,
    shard: u16,
    lost: &[AcknowledgedBatch],
) -> Result<(), StoreError> {
    if lost.is_empty() {
        return Ok(());
    }
    let recorded: HashSet<_> = store.record_lost(shard, lost).await?.into_iter().collect();
    let lost: Vec<_> = lost.iter().filter(|batch| recorded.contains(&batch.batch_id)).collect();
    let events = lost.iter().map(|batch| u64::from(batch.count)).sum();
    if events > 0 {
        metrics::stream_lost(events);
        let hours = hours(lost.iter().map(|batch| batch.id.ms));
        tracing::error!(
            shard,
            batches = lost.len(),
            events,
            hours,
            "acknowledged batches are neither in the stream nor in the store; `millrace audit` lists them"
        );
    }
    Ok(())
}

/// The hours (UTC) that contain these times, in milliseconds since 1970.
fn hours(times_ms: impl Iterator<Item = u64>) -> String {
    let hours: BTreeSet<_> = times_ms.map(|ms| ms / 3_600_000).collect();
    let name = |hour: u64| {
        let start = OffsetDateTime::from_unix_timestamp(i64::try_from(hour * 3_600).ok()?).ok()?;
        start.format(&Rfc3339).ok()
    };
    hours.into_iter().filter_map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hour_with_a_loss_is_named_once() {
        let hour_ms = 3_600_000;
        let times = [2 * hour_ms + 1, 2 * hour_ms, 5 * hour_ms - 1];
        assert_eq!(hours(times.into_iter()), "1970-01-01T02:00:00Z, 1970-01-01T04:00:00Z");
    }
}
