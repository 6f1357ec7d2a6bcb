//! Threads, each with connections of its own, and nothing shared with the others but a few counters.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::client::{self, Part, Signals};
use super::tally::{Live, Tally};
use super::{Load, Pace};

/// More would only take each other's processor.
const THREADS_MAX: usize = 2;

/// A load that is being sent.
#[derive(Debug)]
pub struct Running {
    live: Arc<Live>,
    valve: Valve,
    threads: Vec<JoinHandle<io::Result<Tally>>>,
    measured: Measured,
}

/// Holds back connections that would send as fast as they are answered. A fixed pace waits for nobody.
#[derive(Clone, Debug)]
pub struct Valve(Arc<watch::Sender<bool>>);

/// The moments between which is measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// When sending began.
    pub begin: Instant,
    /// The first that counts.
    pub from: Instant,
    /// The last; nothing is sent after it.
    pub until: Instant,
}

/// Opens the connections, and begins to send when all are open.
///
/// # Errors
/// When a thread cannot be started. What goes wrong in one is told by [`Running::finish`].
pub async fn start(load: &Load) -> io::Result<Running> {
    let count = load.connections.min(THREADS_MAX);
    let live = Arc::new(Live::default());
    let (held, gate) = watch::channel(false);
    let (begin, begun) = watch::channel(None);
    let (ready, mut all_ready) = mpsc::channel(count);
    let mut threads = Vec::new();
    for number in 0..count {
        let signals = Signals {
            live: Arc::clone(&live),
            gate: gate.clone(),
            ready: ready.clone(),
            begun: begun.clone(),
        };
        let part = Part::of(load, number, count);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, client::run(part, signals))
        };
        threads.push(std::thread::Builder::new().name(format!("load-{number}")).spawn(work)?);
    }
    drop(ready);
    // A thread that cannot open its connections ends without a word here, and is asked why at the end.
    while all_ready.recv().await.is_some() {}
    let now = Instant::now();
    let from = now + load.warm_up;
    let measured = Measured { begin: now, from, until: from + load.window };
    begin.send_replace(Some(measured));
    Ok(Running { live, valve: Valve(Arc::new(held)), threads, measured })
}

impl Running {
    /// What is known so far.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// When is measured.
    pub fn measured(&self) -> Measured {
        self.measured
    }

    /// What holds it back.
    pub fn valve(&self) -> Valve {
        self.valve.clone()
    }

    /// Waits until the last answer is in.
    ///
    /// # Errors
    /// When a connection could not be opened.
    pub async fn finish(self) -> io::Result<Tally> {
        let threads = self.threads;
        let join = move || {
            let mut all = Tally::new();
            for thread in threads {
                all.add(&thread.join().map_err(|_| io::Error::other("a thread of the generator panicked"))??);
            }
            Ok(all)
        };
        tokio::task::spawn_blocking(join).await.map_err(io::Error::other)?
    }
}

impl Valve {
    /// Whether connections wait before they send their next request.
    pub fn hold(&self, held: bool) {
        self.0.send_if_modified(|was| std::mem::replace(was, held) != held);
    }
}

impl Part {
    /// What one of so many threads does of a load.
    fn of(load: &Load, number: usize, threads: usize) -> Self {
        let connections = load.connections / threads + usize::from(number < load.connections % threads);
        let requests_per_s = match load.pace {
            Pace::Closed => None,
            Pace::Fixed { requests_per_s } => Some(requests_per_s / threads as f64),
        };
        // Threads send in turns, not at once.
        let turn = number as f64 / threads as f64;
        Self { target: load.target.clone(), shape: load.shape.clone(), connections, requests_per_s, turn }
    }
}
