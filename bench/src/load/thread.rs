//! The work of one generator thread: opens its connections, and runs a client on each.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::client::Client;
use super::connection::Connection;
use super::request::templates;
use super::schedule::Schedule;
use super::tally::{LiveCounters, Tally};
use super::thread_state::{ThreadLoad, ThreadState};

/// A thread's connection to the generator that started it.
#[derive(Debug)]
pub struct Signals {
    pub live: Arc<LiveCounters>,
    /// True while closed-loop clients are held back.
    pub held: watch::Receiver<bool>,
    /// Dropped when the thread's connections are open.
    pub ready: mpsc::Sender<()>,
    /// `None` until all threads are ready.
    pub schedule: watch::Receiver<Option<Schedule>>,
}

/// Runs the clients of one thread until the load ends.
///
/// # Errors
/// When a connection cannot be opened.
pub async fn run(load: ThreadLoad, mut signals: Signals) -> io::Result<Tally> {
    let mut connections = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        connections.push(Connection::open(load.target.address).await?);
    }
    let Signals { live, held, ready, schedule: ref mut scheduled } = signals;
    let templates = templates(&load.target, &load.shape);
    drop(ready);
    let scheduled = scheduled.wait_for(Option::is_some).await.map_err(io::Error::other)?;
    let schedule = scheduled.expect("waited until there is a schedule");
    drop(scheduled);
    let state = Rc::new(ThreadState::new(load, templates, schedule, live));
    let cpu_before = cpu_s();
    let mut clients = JoinSet::new();
    for connection in connections {
        let client = Client::new(Rc::clone(&state), connection, held.clone())?;
        clients.spawn_local(client.run());
    }
    while let Some(ended) = clients.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    let mut tally = state.tally();
    tally.cpu_s = cpu_s() - cpu_before;
    Ok(tally)
}

/// Processor time of the current thread.
fn cpu_s() -> f64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
