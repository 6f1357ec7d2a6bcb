//! What a proxy and all its connections share.

use std::net::SocketAddr;

use tokio::sync::watch;

use super::counts::Counters;
use super::trap::Traps;
use super::weather::Sky;
use super::wire::Wire;

#[derive(Debug)]
pub(super) struct ProxyState {
    /// Where new connections lead.
    pub upstream: watch::Sender<SocketAddr>,
    pub wire: Wire,
    pub sky: watch::Sender<Sky>,
    pub traps: Traps,
    pub counters: Counters,
}
