//! Deadlines for a server that does not answer at all: its own timeouts do not apply then.

use std::time::Duration;

use crate::StoreError;

/// For a read or a small change, waiting for a connection included.
pub(super) const SHORT: Duration = Duration::from_secs(10);
/// For work that reads whole tables.
pub(super) const LONG: Duration = Duration::from_secs(30 * 60);

/// The result of `work`, unless it takes longer than `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(StoreError::Unavailable(format!("no answer within {} s", limit.as_secs()))),
    }
}
