//! Where everybody stands, and the steps that no mistake can change: those of the client, of time, and of a
//! list.

/// How often the client posts each batch before it gives up.
pub const TRIES: [usize; 2] = [2, 1];
/// Events in each batch.
pub const EVENTS: [i8; 2] = [2, 1];
/// Crashes and lost answers, together.
pub const FAULTS: u8 = 2;
pub const LANES: usize = 2;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub faults_left: u8,
    pub clients: [Client; 2],
    /// By batch and try. A request that its client has given up may still arrive.
    pub requests: [[Request; 2]; 2],
    /// By batch id: the batch's own number, unless a retry gets a new one.
    pub markers: [Marker; 4],
    /// How many entries the group has handed out; `None` before it was made.
    pub group_at: Option<usize>,
    pub entries: Vec<Entry>,
    /// The project's count in the stream.
    pub used: i8,
    pub lanes: [Lane; LANES],
    /// What `usage_hourly` counts, duplicates and all.
    pub usage: i8,
    /// Whether the event with an id is in `events`; its primary key holds it to one.
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
pub enum Place {
    Unread,
    Pending {
        consumer: u8,
    },
    /// In the stream, read, and on nobody's list.
    Orphaned,
    Gone,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    pub batch: usize,
    pub batch_id: usize,
    pub place: Place,
    /// What the ledger says of it.
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
    /// Only of a mutant: settled, and yet to be written.
    SettledFirst(usize),
    Written(usize, Outcome),
}

impl Outcome {
    pub fn events(self) -> i8 {
        self.stored + self.duplicate
    }
}

impl Entry {
    /// What it should have cost its project by now: everything until it is settled, then what was stored.
    pub fn charge(&self) -> i8 {
        match (self.place, self.ledger) {
            (Place::Gone, Some(outcome)) => outcome.stored,
            _ => EVENTS[self.batch],
        }
    }
}

impl State {
    /// Nothing has happened.
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

    /// No answer came: the next try, or none. The request goes on by itself.
    pub fn time_out(&mut self, batch: usize) -> Option<()> {
        let Client::Trying(attempt) = self.clients[batch] else { return None };
        if self.requests[batch][attempt] == Request::None {
            return None;
        }
        self.clients[batch] =
            if attempt + 1 < TRIES[batch] { Client::Trying(attempt + 1) } else { Client::GaveUp };
        Some(())
    }

    /// 202. Nobody hears one that comes after the client went on.
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

    /// Every request ends unanswered, wherever it was.
    pub fn crash_api(&mut self) -> Option<()> {
        let mut any = false;
        for batch in 0..2 {
            any |= self.requests[batch].iter().any(|request| *request != Request::None);
            self.time_out(batch);
            self.requests[batch] = [Request::None; 2];
        }
        any.then_some(())
    }

    /// After it was settled and nobody can ask any more: the 15 s, the minute or the day of settle.lua.
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

    /// XREADGROUP of what nobody has read.
    pub fn read_new(&mut self, lane: usize) -> Option<usize> {
        let reader = self.lanes[lane];
        let entry = self.group_at.filter(|at| *at < self.entries.len())?;
        if reader.doing != Doing::Idle {
            return None;
        }
        self.group_at = Some(entry + 1);
        if self.entries[entry].place == Place::Unread {
            self.entries[entry].place = Place::Pending { consumer: reader.consumer };
        }
        Some(entry)
    }

    /// An entry on a list: a lane's own (XREADGROUP from 0), or another's, whom it believes silent
    /// (XAUTOCLAIM).
    pub fn take(&mut self, lane: usize, entry: usize, whose: impl Fn(u8, u8) -> bool) -> Option<()> {
        let lane = &mut self.lanes[lane];
        let Place::Pending { consumer } = &mut self.entries[entry].place else { return None };
        if lane.doing != Doing::Idle || !whose(*consumer, lane.consumer) {
            return None;
        }
        *consumer = lane.consumer;
        lane.doing = Doing::Holding(entry);
        Some(())
    }

    pub fn come_back(&mut self, lane: usize) -> Option<()> {
        let doing = &mut self.lanes[lane].doing;
        (*doing == Doing::Down).then(|| *doing = Doing::Idle)
    }
}
