//! How one link finds its primary, and what the process knows about all links together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use redis::ConnectionInfo;

use super::address::Discovery;
use super::location::Locator;
use crate::metrics::STREAM_CONNECTED;

/// Which links have a connection. The metric is 1 while all of them do.
pub(super) struct ConnectedLinks(Box<[AtomicBool]>);

impl ConnectedLinks {
    /// Of this many links, none is connected.
    pub(super) fn new(links: u16) -> Self {
        STREAM_CONNECTED.set(0.0);
        Self((0..links).map(|_| AtomicBool::new(false)).collect())
    }

    fn record(&self, link: u16, connected: bool) {
        self.0[usize::from(link)].store(connected, Ordering::SeqCst);
        let all = self.0.iter().all(|connected| connected.load(Ordering::SeqCst));
        STREAM_CONNECTED.set(f64::from(all));
    }
}

/// The way to the primary of one shard, or of all.
#[derive(Clone)]
pub(super) struct Route {
    locator: Arc<Locator>,
    links: Arc<ConnectedLinks>,
    /// The first shard of the link, which is also its number.
    shard: u16,
}

impl Route {
    pub(super) fn new(locator: &Arc<Locator>, links: &Arc<ConnectedLinks>, shard: u16) -> Self {
        Self { locator: Arc::clone(locator), links: Arc::clone(links), shard }
    }

    pub(super) fn discovery(&self) -> &Discovery {
        self.locator.discovery()
    }

    /// How to connect to the primary now. The error says in words why that is not known.
    pub(super) async fn primary(&self) -> Result<ConnectionInfo, String> {
        self.locator.primary(self.shard).await
    }

    /// Returns when the primary is elsewhere, with a time before which it was.
    pub(super) async fn left(&self, place: &ConnectionInfo) -> Instant {
        self.locator.left(self.shard, place).await
    }

    /// Whether the primary is known to be elsewhere.
    pub(super) fn has_left(&self, place: &ConnectionInfo) -> bool {
        self.locator.has_left(self.shard, place)
    }

    pub(super) fn record_connected(&self, connected: bool) {
        self.links.record(self.shard, connected);
    }
}
