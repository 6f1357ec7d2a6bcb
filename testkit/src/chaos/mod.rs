//! A network between two processes that does what it is told: between a client and the API, the API and Redis, a
//! worker and Redis, a worker and PostgreSQL.
//!
//! [`Weather`] is what it is like for everybody: slow, sliced, mute, a black hole. A [`Trap`] does one thing to one
//! connection at one moment of its protocol: when the reply to the 7th `EVALSHA` is here, when COMMIT is about to be
//! sent. What this room must never do: change a byte, or deliver one after another was lost.

mod connection;
mod counts;
mod frames;
mod postgres;
mod pump;
mod redis;
mod trap;
mod weather;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use counts::ProxyCounts;
pub use trap::{Act, ArmedTrap, Call, Moment, Transaction, Trap};
pub use weather::Weather;

use counts::Counts;
use trap::Traps;
use weather::Sky;

/// When to look again for clients after one could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// The protocol that a proxy listens to. Only traps need to know; `Plain` has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// Bytes.
    Plain,
    /// RESP2 or RESP3.
    Redis,
    /// PostgreSQL's, version 3.
    Postgres,
}

/// A proxy that runs until it is dropped, and its connections with it.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    wire: Wire,
    sky: watch::Sender<Sky>,
    traps: Traps,
    counts: Counts,
}

impl ChaosProxy {
    /// Starts one in front of `upstream`, in fair weather. It need not run yet: who connects meanwhile is refused.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(upstream: SocketAddr, wire: Wire) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let sky = watch::Sender::new(Sky::default());
        let shared = Arc::new(Shared {
            upstream,
            wire,
            sky: sky.clone(),
            traps: Traps::default(),
            counts: Counts::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        tasks.spawn(weather::blow(sky));
        Self { address, shared, _tasks: tasks }
    }

    /// Where it listens; the same as long as it lives.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather, at once, for connections that are open and for those to come.
    pub fn set(&self, weather: Weather) {
        self.shared.sky.send_modify(|sky| sky.turn_to(weather));
    }

    /// Fair weather, no traps, and no connection that has lost bytes: those are reset.
    pub fn heal(&self) {
        // In this order, so that no trap springs unhealed.
        self.shared.traps.disarm_all();
        self.shared.sky.send_modify(|sky| {
            sky.turn_to(Weather::Fair);
            sky.heals += 1;
        });
    }

    /// Lays a trap. It is armed until it has sprung, or the proxy is healed.
    ///
    /// # Panics
    /// When it counts from 0, or its moment is none of this proxy's protocol.
    pub fn arm(&self, trap: Trap) -> ArmedTrap {
        let wire = self.shared.wire;
        assert_eq!(trap.moment.wire(), wire, "a proxy for {wire:?} never sees {:?}", trap.moment);
        self.shared.traps.arm(trap)
    }

    /// Resets every open connection now.
    pub fn reset_all(&self) {
        self.shared.sky.send_modify(|sky| sky.resets += 1);
    }

    /// Cuts the replies of the connections that a trap [holds](Act::Hold) now.
    pub fn cut_held(&self) {
        self.shared.sky.send_modify(|sky| sky.cuts += 1);
    }

    /// What it has seen so far.
    pub fn counts(&self) -> ProxyCounts {
        self.shared.counts.seen(self.shared.traps.sprung())
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with the proxy, because they are in its hand.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move { connection::serve(client, &shared).await });
            }
            // The client has gone again, or there is no file descriptor left until a connection ends.
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
        while connections.try_join_next().is_some() {}
    }
}
