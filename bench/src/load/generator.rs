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

/// Held against a server that stalls, the generator must tell of everybody who waited.
#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Instant, sleep_until};

    use super::*;
    use crate::load::{Shape, Target};

    const STALL: Duration = Duration::from_millis(400);
    const ANSWER: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 14\r\n\r\n{\"accepted\":1}";

    /// A server that reads at once, and answers nobody until it has stalled after its first request. Every request of one event
    /// ends with `}]}`.
    async fn serve(listener: TcpListener) {
        let answers_from = Arc::new(OnceLock::new());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream, Arc::clone(&answers_from)));
        }
    }

    async fn answer(mut stream: TcpStream, answers_from: Arc<OnceLock<Instant>>) {
        let mut received = Vec::new();
        while stream.read_buf(&mut received).await.unwrap() > 0 {
            if received.ends_with(b"}]}") {
                received.clear();
                sleep_until(*answers_from.get_or_init(|| Instant::now() + STALL)).await;
                stream.write_all(ANSWER).await.unwrap();
            }
        }
    }

    /// How many requests were told of, and how many of them as having taken at least so long.
    async fn told(pace: Pace, at_least: Duration) -> (u64, u64) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target { address: listener.local_addr().unwrap(), key: "none".to_owned(), days_ago: 0 };
        let server = tokio::spawn(serve(listener));
        let shape = Shape { events: 1..=1, duplicates: 0.0 };
        let window = Duration::from_secs(1);
        let load = Load { target, shape, connections: 2, pace, warm_up: Duration::ZERO, window };
        let tally = start(&load).await.unwrap().finish().await.unwrap();
        server.abort();
        assert_eq!((tally.refused, tally.unanswered), (0, 0));
        (tally.latency.count(), tally.latency.count_at_least(at_least))
    }

    #[tokio::test]
    async fn at_a_fixed_pace_everybody_who_was_due_during_a_stall_has_waited() {
        // 100 a second are due. The stall begins no earlier than the first of them, so those of its first half wait for half
        // of it or longer.
        let (told, waited) = told(Pace::Fixed { requests_per_s: 100.0 }, STALL / 2).await;
        assert_eq!(told, 100, "every request that was due is told of");
        assert!(waited >= 20, "only {waited} of those who were due during the stall have waited");
    }

    #[tokio::test]
    async fn a_closed_loop_tells_of_no_more_than_one_who_waited_on_each_connection() {
        // This is why it says nothing of latency: the other 38 were never sent.
        let (_, waited) = told(Pace::Closed, STALL / 2).await;
        assert!(waited >= 1, "the stall was not seen at all");
    }
}
