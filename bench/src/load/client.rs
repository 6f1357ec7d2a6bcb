//! What one thread of the generator does: its clients, each with a connection, sending when they shall.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::answer::Answer;
use super::clock::{TimeWriter, now_us};
use super::connection::Connection;
use super::generator::Measured;
use super::identity::{Identities, Identity, Memory};
use super::request::{Template, happened_us, templates};
use super::tally::{Live, Tally};
use super::timer::Timer;
use super::{Shape, Target};

/// How long after the end requests are still sent that were due before it. A server that is slower than the pace would
/// never come to an end.
const AFTER_THE_END: Duration = Duration::from_secs(1);

/// One thread's part of a load.
#[derive(Clone, Debug)]
pub struct Part {
    pub target: Target,
    pub shape: Shape,
    pub connections: usize,
    /// `None`: as many as are answered.
    pub requests_per_s: Option<f64>,
    /// Which share of the time between two requests the first one waits.
    pub turn: f64,
}

/// What threads and whoever started them tell each other.
#[derive(Debug)]
pub struct Signals {
    pub live: Arc<Live>,
    pub gate: watch::Receiver<bool>,
    pub ready: mpsc::Sender<()>,
    pub begun: watch::Receiver<Option<Measured>>,
}

/// What the clients of a thread share.
struct Thread {
    part: Part,
    templates: Vec<Template>,
    /// Requests given out so far; at a fixed pace, also which time is the next to be due.
    given: Cell<u64>,
    measured: Measured,
    live: Arc<Live>,
    tally: RefCell<Tally>,
}

/// Runs the clients of one thread until the load's end.
///
/// # Errors
/// When a connection cannot be opened.
pub async fn run(part: Part, mut signals: Signals) -> io::Result<Tally> {
    let mut connections = Vec::with_capacity(part.connections);
    for _ in 0..part.connections {
        connections.push(Connection::open(part.target.address).await?);
    }
    let templates = templates(&part.target, &part.shape);
    let Signals { live, gate, ready, begun: ref mut begin } = signals;
    drop(ready);
    let begun = begin.wait_for(Option::is_some).await.map_err(io::Error::other)?;
    let measured = begun.expect("this was waited for");
    drop(begun);
    let (given, tally) = (Cell::new(0), RefCell::new(Tally::new()));
    let thread = Rc::new(Thread { part, templates, given, measured, live, tally });
    let cpu_before = cpu_s();
    let mut clients = JoinSet::new();
    for connection in connections {
        let client = Client::new(Rc::clone(&thread), connection, gate.clone())?;
        clients.spawn_local(client.run());
    }
    while let Some(ended) = clients.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    let mut tally = thread.tally.borrow().clone();
    tally.cpu_s = cpu_s() - cpu_before;
    Ok(tally)
}

fn cpu_s() -> f64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// One client.
struct Client {
    thread: Rc<Thread>,
    connection: Connection,
    gate: watch::Receiver<bool>,
    timer: Timer,
    ids: Identities,
    random: StdRng,
    times: TimeWriter,
    memory: Memory,
    request: Vec<u8>,
}

/// The events of the request under way.
#[derive(Default)]
struct Batch {
    identities: Vec<Identity>,
    /// Those among them that were never sent before.
    fresh: Vec<Identity>,
    repeated: u64,
}

impl Client {
    fn new(thread: Rc<Thread>, connection: Connection, gate: watch::Receiver<bool>) -> io::Result<Self> {
        Ok(Self {
            thread,
            connection,
            gate,
            timer: Timer::new()?,
            ids: Identities::new(),
            random: StdRng::from_rng(&mut rand::rng()),
            times: TimeWriter::new(),
            memory: Memory::default(),
            request: Vec::new(),
        })
    }

    async fn run(mut self) -> io::Result<()> {
        let thread = Rc::clone(&self.thread);
        let mut batch = Batch::default();
        while let Some(due) = self.next_due().await? {
            if Instant::now() >= thread.measured.until + AFTER_THE_END {
                thread.give_up(due);
                continue;
            }
            let template = &thread.templates[thread.given.get() as usize % thread.templates.len()];
            self.choose(template.events(), &mut batch);
            template.render(&batch.identities, &mut self.times, &mut self.request);
            let answer = self.connection.exchange(&self.request).await;
            match answer {
                Ok(answer) => self.note(due, answer, &batch),
                Err(_) => {
                    thread.note_silence(batch.identities.len());
                    self.connection = Connection::open(thread.part.target.address).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits until a request is due, and returns when it was; `None` when there is none before the end.
    async fn next_due(&mut self) -> io::Result<Option<Instant>> {
        let Measured { begin, until, .. } = self.thread.measured;
        let ticket = self.thread.given.get();
        self.thread.given.set(ticket + 1);
        let Some(requests_per_s) = self.thread.part.requests_per_s else {
            if *self.gate.borrow() {
                let opened = self.gate.wait_for(|held| !held);
                // Whoever is held back until the end has nothing left to send.
                if tokio::time::timeout_at(until.into(), opened).await.is_err() {
                    return Ok(None);
                }
            }
            let now = Instant::now();
            return Ok((now < until).then_some(now));
        };
        let due = begin + Duration::from_secs_f64((ticket as f64 + self.thread.part.turn) / requests_per_s);
        if due >= until {
            return Ok(None);
        }
        if let Some(left) = due.checked_duration_since(Instant::now()) {
            self.timer.sleep(left).await?;
            self.thread.tally.borrow_mut().lateness.record(due.elapsed());
        }
        Ok(Some(due))
    }

    /// Chooses who the events of the next batch are.
    fn choose(&mut self, events: usize, batch: &mut Batch) {
        let Part { target, shape, .. } = &self.thread.part;
        let sent_us = now_us() - target.days_ago_us();
        batch.identities.clear();
        batch.fresh.clear();
        for place in 0..events {
            let repeats = shape.duplicates > 0.0 && self.random.random_bool(shape.duplicates);
            let known = if repeats { self.memory.pick(sent_us, self.random.random()) } else { None };
            batch.identities.push(known.unwrap_or_else(|| {
                let time_us = happened_us(sent_us, place, events);
                let fresh = Identity { id: self.ids.next_id(), time_us };
                batch.fresh.push(fresh);
                fresh
            }));
        }
        batch.repeated = (events - batch.fresh.len()) as u64;
    }

    fn note(&mut self, due: Instant, answer: Answer, batch: &Batch) {
        let took = due.elapsed();
        let is_accepted = (200..300).contains(&answer.status);
        let events = answer.accepted.unwrap_or(0);
        if is_accepted {
            assert!(
                answer.accepted.is_none_or(|accepted| accepted == batch.identities.len() as u64),
                "a part of a batch of valid events was refused"
            );
            self.thread.live.add(events, if events > 0 { batch.repeated } else { 0 });
            if self.thread.part.shape.duplicates > 0.0 {
                self.memory.keep(batch.fresh.iter().copied());
            }
        }
        self.thread.note(due, took, answer.status, is_accepted.then_some(events));
    }
}

impl Thread {
    /// A request that cannot be sent any more has taken at least this long.
    fn give_up(&self, due: Instant) {
        let mut tally = self.tally.borrow_mut();
        tally.unsent += 1;
        if due >= self.measured.from {
            tally.latency.record(due.elapsed());
        }
    }

    fn note(&self, due: Instant, took: Duration, status: u16, accepted: Option<u64>) {
        let Measured { from, until, .. } = self.measured;
        let mut tally = self.tally.borrow_mut();
        let Some(events) = accepted else {
            tally.refused += 1;
            tally.refused_with = Some(status);
            return;
        };
        if due >= from {
            tally.latency.record(took);
        }
        if (from..until).contains(&(due + took)) {
            tally.requests += 1;
            tally.events += events;
        }
    }

    fn note_silence(&self, events: usize) {
        let mut tally = self.tally.borrow_mut();
        tally.unanswered += 1;
        tally.unanswered_events += events as u64;
    }
}
