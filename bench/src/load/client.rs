//! One client: a connection, and the requests that it sends when they are due.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use super::clock::{TimeWriter, now_us};
use super::connection::Connection;
use super::identity::{IdGenerator, Identity, RecentEvents};
use super::request::event_time_us;
use super::response::Response;
use super::schedule::Schedule;
use super::thread_state::{ThreadLoad, ThreadState};
use super::timer::Timer;

/// For how long after the end of the load overdue requests are still sent. Without a limit, a load on a
/// server that is slower than the rate would never end.
const SEND_AFTER_END: Duration = Duration::from_secs(1);

pub struct Client {
    thread: Rc<ThreadState>,
    connection: Connection,
    held: watch::Receiver<bool>,
    timer: Timer,
    ids: IdGenerator,
    random: StdRng,
    times: TimeWriter,
    recent: RecentEvents,
    request: Vec<u8>,
}

/// The events of the request in flight.
#[derive(Default)]
struct Batch {
    identities: Vec<Identity>,
    /// Those that were never sent before.
    fresh: Vec<Identity>,
    repeated: u64,
}

impl Client {
    pub fn new(
        thread: Rc<ThreadState>,
        connection: Connection,
        held: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        Ok(Self {
            thread,
            connection,
            held,
            timer: Timer::new()?,
            ids: IdGenerator::new(),
            random: StdRng::from_rng(&mut rand::rng()),
            times: TimeWriter::new(),
            recent: RecentEvents::default(),
            request: Vec::new(),
        })
    }

    /// Sends requests until the load ends.
    ///
    /// # Errors
    /// When a lost connection cannot be opened again.
    pub async fn run(mut self) -> io::Result<()> {
        let thread = Rc::clone(&self.thread);
        let mut batch = Batch::default();
        while let Some(due) = self.next_due().await? {
            if Instant::now() >= thread.schedule.end + SEND_AFTER_END {
                thread.record_unsent(due);
                continue;
            }
            let template = thread.next_template();
            self.choose_events(template.events(), &mut batch);
            template.render(&batch.identities, &mut self.times, &mut self.request);
            let response = self.connection.exchange(&self.request).await;
            match response {
                Ok(response) => self.record(due, response, &batch),
                Err(_) => {
                    thread.record_unanswered(batch.identities.len());
                    self.connection = Connection::open(thread.load.target.address).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits until a request is due, and returns when it was due; `None` when no more is due before the end.
    async fn next_due(&mut self) -> io::Result<Option<Instant>> {
        let Schedule { begin, end, .. } = self.thread.schedule;
        let number = self.thread.claim();
        let Some(requests_per_s) = self.thread.load.requests_per_s else {
            if *self.held.borrow() {
                let released = self.held.wait_for(|is_held| !is_held);
                // A client that is held back until the end has nothing left to send.
                if tokio::time::timeout_at(end.into(), released).await.is_err() {
                    return Ok(None);
                }
            }
            let now = Instant::now();
            return Ok((now < end).then_some(now));
        };
        let due = begin + Duration::from_secs_f64((number as f64 + self.thread.load.offset) / requests_per_s);
        if due >= end {
            return Ok(None);
        }
        if let Some(left) = due.checked_duration_since(Instant::now()) {
            self.timer.sleep(left).await?;
            self.thread.record_lateness(due.elapsed());
        }
        Ok(Some(due))
    }

    /// Fills `batch` with the identities of `events` events: new ones, and duplicates in the load's share.
    fn choose_events(&mut self, events: usize, batch: &mut Batch) {
        let ThreadLoad { target, shape, .. } = &self.thread.load;
        let sent_us = now_us() - target.days_ago_us();
        batch.identities.clear();
        batch.fresh.clear();
        for index in 0..events {
            let is_duplicate = shape.duplicates > 0.0 && self.random.random_bool(shape.duplicates);
            let duplicate = if is_duplicate { self.recent.pick(sent_us, self.random.random()) } else { None };
            batch.identities.push(duplicate.unwrap_or_else(|| {
                let time_us = event_time_us(sent_us, index, events);
                let fresh = Identity { id: self.ids.next_id(), time_us };
                batch.fresh.push(fresh);
                fresh
            }));
        }
        batch.repeated = (events - batch.fresh.len()) as u64;
    }

    fn record(&mut self, due: Instant, response: Response, batch: &Batch) {
        let took = due.elapsed();
        let is_accepted = (200..300).contains(&response.status);
        let events = response.accepted.unwrap_or(0);
        if is_accepted {
            assert!(
                response.accepted.is_none_or(|accepted| accepted == batch.identities.len() as u64),
                "the server rejected valid events of an accepted batch"
            );
            self.thread.live.add(events, if events > 0 { batch.repeated } else { 0 });
            if self.thread.load.shape.duplicates > 0.0 {
                self.recent.add(batch.fresh.iter().copied());
            }
        }
        self.thread.record_answer(due, took, is_accepted.then_some(events));
    }
}
