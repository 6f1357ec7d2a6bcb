//! Starts the generator's threads, and collects their tallies. Each thread has its own connections.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::schedule::Schedule;
use super::spec::Load;
use super::tally::{LiveCounters, Tally};
use super::thread::{self, Signals};
use super::thread_state::ThreadLoad;

/// More threads would only compete with the subject for processors.
const THREADS_MAX: usize = 2;

#[derive(Debug)]
pub struct RunningLoad {
    live: Arc<LiveCounters>,
    throttle: Throttle,
    threads: Vec<JoinHandle<io::Result<Tally>>>,
    schedule: Schedule,
}

/// Holds back the clients of a closed loop. Has no effect on a fixed rate.
#[derive(Clone, Debug)]
pub struct Throttle(Arc<watch::Sender<bool>>);

/// Opens the connections, and begins to send when all are open.
///
/// # Errors
/// When a thread cannot be started. [`RunningLoad::finish`] returns the errors of the threads.
pub async fn start(load: &Load) -> io::Result<RunningLoad> {
    let count = load.connections.min(THREADS_MAX);
    let live = Arc::new(LiveCounters::default());
    let (hold, held) = watch::channel(false);
    let (set_schedule, schedule) = watch::channel(None);
    let (ready, mut all_ready) = mpsc::channel(count);
    let mut threads = Vec::new();
    for number in 0..count {
        let signals = Signals {
            live: Arc::clone(&live),
            held: held.clone(),
            ready: ready.clone(),
            schedule: schedule.clone(),
        };
        let share = ThreadLoad::share_of(load, number, count);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, thread::run(share, signals))
        };
        threads.push(std::thread::Builder::new().name(format!("load-{number}")).spawn(work)?);
    }
    drop(ready);
    // A thread that cannot open its connections drops its sender, too. `finish` returns its error.
    while all_ready.recv().await.is_some() {}
    let begin = Instant::now();
    let measured_from = begin + load.warm_up;
    let schedule = Schedule { begin, measured_from, end: measured_from + load.window };
    set_schedule.send_replace(Some(schedule));
    Ok(RunningLoad { live, throttle: Throttle(Arc::new(hold)), threads, schedule })
}

impl RunningLoad {
    pub fn live(&self) -> &Arc<LiveCounters> {
        &self.live
    }

    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    pub fn throttle(&self) -> Throttle {
        self.throttle.clone()
    }

    /// Waits for the last answer, and returns the totals of all threads.
    ///
    /// # Errors
    /// When a connection could not be opened.
    pub async fn finish(self) -> io::Result<Tally> {
        let threads = self.threads;
        let join = move || {
            let mut all = Tally::new();
            for thread in threads {
                all.add(&thread.join().map_err(|_| io::Error::other("a load generator thread panicked"))??);
            }
            Ok(all)
        };
        tokio::task::spawn_blocking(join).await.map_err(io::Error::other)?
    }
}

impl Throttle {
    /// Sets whether clients wait before they send their next request.
    pub fn hold(&self, is_held: bool) {
        self.0.send_if_modified(|was_held| std::mem::replace(was_held, is_held) != is_held);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Instant, sleep_until};

    use super::*;
    use crate::load::{Pacing, Shape, Target};

    const STALL: Duration = Duration::from_millis(400);
    const ANSWER: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 14\r\n\r\n{\"accepted\":1}";

    /// A server that reads immediately, and answers no request until it has stalled after the first one.
    /// Every request has one event, and therefore ends with `}]}`.
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

    /// Returns how many latencies were recorded, and how many of them are at least `at_least`.
    async fn latencies(pacing: Pacing, at_least: Duration) -> (u64, u64) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::new(listener.local_addr().unwrap(), "none");
        let server = tokio::spawn(serve(listener));
        let shape = Shape::new(1..=1);
        let window = Duration::from_secs(1);
        let load = Load { target, shape, connections: 2, pacing, warm_up: Duration::ZERO, window };
        let tally = start(&load).await.unwrap().finish().await.unwrap();
        server.abort();
        assert_eq!((tally.refused, tally.unanswered), (0, 0));
        (tally.latency.count(), tally.latency.count_at_least(at_least))
    }

    #[tokio::test]
    async fn at_a_fixed_rate_every_request_due_during_a_stall_has_its_wait_recorded() {
        // 100 a second are due. The stall begins no earlier than the first of them, so those due in its first
        // half wait for half of it or longer.
        let (recorded, waited) = latencies(Pacing::FixedRate { requests_per_s: 100.0 }, STALL / 2).await;
        assert_eq!(recorded, 100, "every request that was due is recorded");
        assert!(waited >= 20, "only {waited} of the requests due during the stall have waited");
    }

    #[tokio::test]
    async fn a_closed_loop_hides_a_stall_because_it_sends_no_requests_during_it() {
        // One request per connection waits. This is why a closed loop is not used to measure latency.
        let (_, waited) = latencies(Pacing::ClosedLoop, STALL / 2).await;
        assert!((1..20).contains(&waited), "{waited} requests on 2 connections have waited");
    }
}
