//! Watches the servers of the store: whether standbys protect what is stored, and whether one took over.
//!
//! After a failover, events that were stored and settled may be missing, so accepted and stored events are
//! compared immediately. This module must never repair anything, and never log the same state twice.

use std::time::Duration;

use millrace_store::{ServerState, SharedStore};
use millrace_stream::SharedStream;
use tokio::sync::watch;

use super::conservation;
use crate::backoff::stopped;
use crate::config::Settings;
use crate::metrics;

const PERIOD: Duration = Duration::from_secs(1);

/// What an operator should know of the standbys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Concern {
    NotVisible,
    NoneSynchronous,
}

/// What was seen at the last look.
#[derive(Default)]
struct Sight {
    timeline: Option<u32>,
    concern: Option<Concern>,
    /// A failover was seen, and accepted and stored events were not compared since.
    check_is_due: bool,
}

/// Looks until the process is to stop. Returns immediately for a store without servers.
pub(super) async fn watch(
    stream: &SharedStream,
    store: &SharedStore,
    settings: &Settings,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut sight = Sight::default();
    while !*shutdown.borrow() {
        match store.servers().await {
            Ok(Some(server)) => look(&mut sight, server, stream, store, settings).await,
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "the servers of the store could not be looked at"),
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD.min(settings.upkeep_interval)) => {}
            () = stopped(&mut shutdown) => {}
        }
    }
}

async fn look(
    sight: &mut Sight,
    server: ServerState,
    stream: &SharedStream,
    store: &SharedStore,
    settings: &Settings,
) {
    metrics::standbys(server.standbys.unwrap_or_default(), settings.standbys());
    let concern = concern(&server, settings.standbys());
    if concern != sight.concern {
        sight.concern = concern;
        report(concern);
    }
    let Some(timeline) = server.timeline else { return };
    let last = sight.timeline.or(server.recorded);
    sight.check_is_due |= last.is_some_and(|last| last != timeline);
    sight.timeline = Some(timeline);
    if server.recorded != Some(timeline) {
        record(server.recorded, timeline, store).await;
    }
    if sight.check_is_due {
        sight.check_is_due = !conservation::check(stream, store).await;
    }
}

/// Records the timeline. The process that replaces an older one announces the failover.
async fn record(old: Option<u32>, new: u32, store: &SharedStore) {
    match store.record_timeline(old, new).await {
        Ok(true) => {
            let Some(old) = old else { return };
            metrics::failed_over();
            tracing::warn!(
                old,
                new,
                "PostgreSQL is on another timeline: a standby took over, or it was restored; comparing accepted and \
                 stored events now"
            );
        }
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, "the timeline could not be recorded"),
    }
}

fn concern(server: &ServerState, needed: u16) -> Option<Concern> {
    match server.standbys {
        None => Some(Concern::NotVisible),
        Some(standbys) => {
            let can_lose = standbys.connected > 0 && !server.waits_for_standbys && needed == 0;
            can_lose.then_some(Concern::NoneSynchronous)
        }
    }
}

fn report(concern: Option<Concern>) {
    match concern {
        None => tracing::info!("the warning about the standbys of PostgreSQL no longer applies"),
        Some(Concern::NotVisible) => tracing::info!(
            "standbys of PostgreSQL cannot be seen; run GRANT pg_monitor TO the role of DATABASE_URL to have them watched"
        ),
        Some(Concern::NoneSynchronous) => tracing::warn!(
            "a failover to the standby can lose stored events: set synchronous_standby_names, or SETTLE_AFTER=standby"
        ),
    }
}

#[cfg(test)]
mod tests {
    use millrace_store::Standbys;

    use super::*;

    fn server(connected: u32, waits_for_standbys: bool) -> ServerState {
        let standbys = Some(Standbys { connected, synchronous: 0 });
        ServerState { timeline: Some(1), recorded: Some(1), standbys, waits_for_standbys }
    }

    #[test]
    fn only_a_standby_that_nothing_waits_for_is_a_concern() {
        assert_eq!(concern(&server(0, false), 0), None);
        assert_eq!(concern(&server(1, false), 0), Some(Concern::NoneSynchronous));
        assert_eq!(concern(&server(1, true), 0), None);
        assert_eq!(concern(&server(1, false), 1), None);
    }

    #[test]
    fn standbys_that_cannot_be_seen_are_a_concern() {
        let hidden = ServerState { standbys: None, ..server(0, false) };
        assert_eq!(concern(&hidden, 0), Some(Concern::NotVisible));
    }
}
