//! The proxy itself: it accepts connections and changes the weather.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection;
use super::counts::{Counters, ProxyCounts};
use super::state::ProxyState;
use super::trap::{ArmedTrap, Trap, Traps};
use super::weather::{self, Sky, Weather};
use super::wire::Wire;

/// Pause after a client could not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// A TCP proxy. Dropping it stops it and closes its connections.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    state: Arc<ProxyState>,
    _tasks: JoinSet<()>,
}

impl ChaosProxy {
    /// Starts a proxy in front of `upstream`, in fair weather. `upstream` need not run yet: until it does,
    /// clients are refused.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(upstream: SocketAddr, wire: Wire) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let sky = watch::Sender::new(Sky::default());
        let state = Arc::new(ProxyState {
            upstream: watch::Sender::new(upstream),
            wire,
            sky: sky.clone(),
            traps: Traps::default(),
            counters: Counters::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        tasks.spawn(weather::run_phases(sky));
        Self { address, state, _tasks: tasks }
    }

    /// The listening address. It never changes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to another server, as a failover of the address does. Open connections stay.
    pub fn lead_to(&self, upstream: SocketAddr) {
        self.state.upstream.send_replace(upstream);
    }

    /// Changes the weather immediately, for open and future connections.
    pub fn set(&self, weather: Weather) {
        self.state.sky.send_modify(|sky| sky.change_to(weather));
    }

    /// Restores fair weather, removes all traps and resets every connection that has lost bytes.
    pub fn heal(&self) {
        // In this order, so that no trap springs after the healing.
        self.state.traps.disarm_all();
        self.state.sky.send_modify(|sky| {
            sky.change_to(Weather::Fair);
            sky.heals += 1;
        });
    }

    /// Arms a trap. It stays armed until it has sprung or the proxy is healed.
    ///
    /// # Panics
    /// When the trap counts from 0, or its moment belongs to another protocol than this proxy's.
    pub fn arm(&self, trap: Trap) -> ArmedTrap {
        let wire = self.state.wire;
        assert_eq!(trap.moment.wire(), wire, "{:?} never happens on a proxy for {wire:?}", trap.moment);
        self.state.traps.arm(trap)
    }

    /// Resets every open connection.
    pub fn reset_all(&self) {
        self.state.sky.send_modify(|sky| sky.resets += 1);
    }

    /// Turns every current [`Hold`](super::trap::Act::Hold) into a [`CutReply`](super::trap::Act::CutReply).
    pub fn cut_held(&self) {
        self.state.sky.send_modify(|sky| sky.cuts += 1);
    }

    /// The counts since the start of the proxy.
    pub fn counts(&self) -> ProxyCounts {
        self.state.counters.read(self.state.traps.sprung())
    }
}

async fn accept(listener: TcpListener, state: Arc<ProxyState>) {
    // Dropping the set, when the proxy is dropped, ends the connections.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let state = Arc::clone(&state);
                connections.spawn(async move { connection::serve(client, &state).await });
            }
            // The client has disconnected, or no file descriptor is free until a connection ends.
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
        while connections.try_join_next().is_some() {}
    }
}
