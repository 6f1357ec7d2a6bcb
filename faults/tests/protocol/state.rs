//! The state of the model, and the steps that no bug changes.

/// Attempts of the client to post each batch.
pub const TRIES: [usize; 2] = [2, 1];
/// Events in each batch.
pub const EVENTS: [i8; 2] = [2, 1];
/// Crashes and lost answers in one search, at most.
pub const FAULTS: u8 = 2;
pub const LANES: usize = 2;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub faults_left: u8,
    pub clients: [Client; 2],
    /// By batch and attempt. A request that timed out at its client may still arrive.
    pub requests: [[Request; 2]; 2],
    /// By batch id: the number of the batch, unless a retry gets a new id.
    pub markers: [Marker; 4],
    /// Number of entries that the group has delivered. `None` before it exists.
    pub group_at: Option<usize>,
    pub entries: Vec<Entry>,
    /// The used quota of the project, as the stream counts it.
    pub used: i8,
    pub lanes: [Lane; LANES],
    /// Events in `usage_hourly`, including duplicates.
    pub usage: i8,
    /// Whether the event with the id is in `events`. The primary key prevents a second one.
    pub has_dated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Client {
    Trying(usize),
    Acknowledged,
    GaveUp,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    None,
    Received,
    Admitted,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Marker {
    None,
    Pending,
    Settled,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EntryState {
    Unread,
    Pending {
        consumer: u8,
    },
    /// In the stream and delivered, but pending for no consumer.
    Orphaned,
    Gone,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    pub batch: usize,
    pub batch_id: usize,
    pub state: EntryState,
    /// Its outcome in the ledger.
    pub ledger: Option<Outcome>,
    pub refunds: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Outcome {
    pub stored: i8,
    pub duplicate: i8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lane {
    pub consumer: u8,
    pub doing: Doing,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Doing {
    Down,
    Idle,
    Holding(usize),
    /// Only with a bug: settled and not written yet.
    SettledFirst(usize),
    Written(usize, Outcome),
}

impl Outcome {
    pub fn events(self) -> i8 {
        self.stored + self.duplicate
    }
}

impl Entry {
    /// The quota that it must use now: all events until it is settled, then the stored events.
    pub fn charge(&self) -> i8 {
        match (self.state, self.ledger) {
            (EntryState::Gone, Some(outcome)) => outcome.stored,
            _ => EVENTS[self.batch],
        }
    }
}

impl State {
    pub fn start() -> Self {
        let lane = |consumer| Lane { consumer, doing: Doing::Idle };
        Self {
            faults_left: FAULTS,
            clients: [Client::Trying(0); 2],
            requests: [[Request::None; 2]; 2],
            markers: [Marker::None; 4],
            group_at: None,
            entries: Vec::new(),
            used: 0,
            lanes: [lane(0), lane(1)],
            usage: 0,
            has_dated: false,
        }
    }

    pub fn post(&mut self, batch: usize) -> Option<()> {
        let Client::Trying(attempt) = self.clients[batch] else { return None };
        let request = &mut self.requests[batch][attempt];
        (*request == Request::None).then(|| *request = Request::Received)
    }

    /// The client gets no answer and makes the next attempt, if any is left. The request itself continues.
    pub fn time_out(&mut self, batch: usize) -> Option<()> {
        let Client::Trying(attempt) = self.clients[batch] else { return None };
        if self.requests[batch][attempt] == Request::None {
            return None;
        }
        self.clients[batch] =
            if attempt + 1 < TRIES[batch] { Client::Trying(attempt + 1) } else { Client::GaveUp };
        Some(())
    }

    /// The client receives 202, unless it has started the next attempt.
    pub fn answer(&mut self, batch: usize, attempt: usize) -> Option<()> {
        if self.requests[batch][attempt] != Request::Admitted {
            return None;
        }
        self.requests[batch][attempt] = Request::None;
        if self.clients[batch] == Client::Trying(attempt) {
            self.clients[batch] = Client::Acknowledged;
        }
        Some(())
    }

    /// Every request in progress ends without an answer.
    pub fn crash_api(&mut self) -> Option<()> {
        let mut any = false;
        for batch in 0..2 {
            any |= self.requests[batch].iter().any(|request| *request != Request::None);
            self.time_out(batch);
            self.requests[batch] = [Request::None; 2];
        }
        any.then_some(())
    }

    /// The marker expires after the batch was settled and no retry can arrive: the 15 s, minute or day of
    /// settle.lua.
    pub fn expire(&mut self, batch_id: usize) -> Option<()> {
        let batch = batch_id % 2;
        let may_be_asked = matches!(self.clients[batch], Client::Trying(_))
            || self.requests[batch].iter().any(|request| *request != Request::None);
        if self.markers[batch_id] != Marker::Settled || may_be_asked {
            return None;
        }
        self.markers[batch_id] = Marker::None;
        Some(())
    }

    /// XREADGROUP of new entries.
    pub fn read_new(&mut self, lane: usize) -> Option<usize> {
        let reader = self.lanes[lane];
        let entry = self.group_at.filter(|at| *at < self.entries.len())?;
        if reader.doing != Doing::Idle {
            return None;
        }
        self.group_at = Some(entry + 1);
        if self.entries[entry].state == EntryState::Unread {
            self.entries[entry].state = EntryState::Pending { consumer: reader.consumer };
        }
        Some(entry)
    }

    /// Takes a pending entry of its own (XREADGROUP from 0) or of a lane that seems silent (XAUTOCLAIM).
    pub fn take(&mut self, lane: usize, entry: usize, is_source: impl Fn(u8, u8) -> bool) -> Option<()> {
        let lane = &mut self.lanes[lane];
        let EntryState::Pending { consumer } = &mut self.entries[entry].state else { return None };
        if lane.doing != Doing::Idle || !is_source(*consumer, lane.consumer) {
            return None;
        }
        *consumer = lane.consumer;
        lane.doing = Doing::Holding(entry);
        Some(())
    }

    pub fn restart(&mut self, lane: usize) -> Option<()> {
        let doing = &mut self.lanes[lane].doing;
        (*doing == Doing::Down).then(|| *doing = Doing::Idle)
    }
}
