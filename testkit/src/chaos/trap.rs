//! Traps: do this to the connection on which that happens for the k-th time. They count and decide; what is then done
//! to a connection is done by its pumps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::Wire;
use super::redis::Command;

/// What to do to the connection on which something happens for the `nth` time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trap {
    /// What must happen.
    pub moment: Moment,
    /// For the how manieth time, counted from 1 and from the arming, over all connections of the proxy.
    pub nth: u64,
    /// What is done then.
    pub act: Act,
    /// Whether it is done at every `nth` time from then on.
    pub repeat: bool,
}

impl Trap {
    /// Springs once, the first time.
    pub fn first(moment: Moment, act: Act) -> Self {
        Self::nth(1, moment, act)
    }

    /// Springs once, the n-th time.
    pub fn nth(nth: u64, moment: Moment, act: Act) -> Self {
        Self { moment, nth, act, repeat: false }
    }

    /// Springs again and again, every n-th time.
    pub fn every(nth: u64, moment: Moment, act: Act) -> Self {
        Self { moment, nth, act, repeat: true }
    }
}

/// Something that happens on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// Redis: a command is about to be passed on. It is not, unless the act is a pause. What was sent before it is
    /// answered first.
    Command(Call),
    /// Redis: the command was executed and its reply is here, but not delivered. Earlier replies are. While such a
    /// trap is armed, nothing overtakes: commands behind one that it counts wait for that one's reply, so that they
    /// are not executed. Errors do not count, for what they answer was not executed.
    Reply(Call),
    /// PostgreSQL: a piece of a COPY was passed on. There will be more, or the end.
    CopyData,
    /// PostgreSQL: the end of a COPY is about to be passed on. It is not, unless the act is a pause.
    CopyDone,
    /// PostgreSQL: COMMIT is about to be passed on, as a simple query or to be parsed. It is not, unless the act is a
    /// pause. What was sent before it is.
    CommitSent(Transaction),
    /// PostgreSQL: COMMIT was executed, successfully, and nobody knows: the answer is here but not delivered.
    CommitAnswered(Transaction),
    /// PostgreSQL: COMMIT was executed and the client has been told, up to "ready for the next query".
    CommitDelivered(Transaction),
}

/// Which commands of Redis are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// The name, in any case.
    pub name: &'static str,
    /// A text that stands in the command: the name of a key, say. It is looked for in the first 4 KiB.
    pub containing: Option<&'static str>,
}

impl Call {
    /// All of this name.
    pub const fn named(name: &'static str) -> Self {
        Self { name, containing: None }
    }

    /// Those of this name in which this text stands.
    pub const fn containing(self, text: &'static str) -> Self {
        Self { containing: Some(text), ..self }
    }
}

/// Which transactions of PostgreSQL are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transaction {
    /// All.
    Any,
    /// Those in which rows were copied.
    WithCopy,
}

/// What is done to the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Both sides are reset at once.
    Cut,
    /// The client's side is reset. The server is told that the client has closed, after all that was passed on, and
    /// what it still says is read and thrown away.
    CutReply,
    /// This direction stands still until [`cut_held`](super::ChaosProxy::cut_held) makes it a `CutReply`, or the proxy
    /// is healed and it goes on.
    Hold,
    /// Everything on this connection vanishes from now on and nobody is told, until the proxy is healed or all
    /// connections are reset.
    BlackHole,
    /// This direction stands still for so long, or until the proxy is healed, and then goes on.
    Pause {
        /// How long.
        ms: u64,
    },
}

/// A trap that was armed. It stays armed when this is dropped.
#[derive(Clone, Debug)]
pub struct ArmedTrap(Arc<State>);

impl ArmedTrap {
    /// Whether it has sprung.
    pub fn sprung(&self) -> bool {
        self.times() > 0
    }

    /// How often it has sprung.
    pub fn times(&self) -> u64 {
        self.0.times.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct State {
    trap: Trap,
    met: AtomicU64,
    times: AtomicU64,
}

/// What has just happened, for traps to judge.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happening<'a> {
    Command(&'a Command),
    Reply(&'a Command),
    CopyData,
    CopyDone,
    CommitSent { copied: bool },
    CommitAnswered { copied: bool },
    CommitDelivered { copied: bool },
}

impl Moment {
    /// The protocol it is a moment of.
    pub(super) fn wire(self) -> Wire {
        match self {
            Self::Command(_) | Self::Reply(_) => Wire::Redis,
            _ => Wire::Postgres,
        }
    }

    fn is(self, happening: Happening<'_>) -> bool {
        match (self, happening) {
            (Self::Command(call), Happening::Command(command))
            | (Self::Reply(call), Happening::Reply(command)) => command.is(call),
            (Self::CopyData, Happening::CopyData) | (Self::CopyDone, Happening::CopyDone) => true,
            (Self::CommitSent(meant), Happening::CommitSent { copied })
            | (Self::CommitAnswered(meant), Happening::CommitAnswered { copied })
            | (Self::CommitDelivered(meant), Happening::CommitDelivered { copied }) => {
                copied || meant == Transaction::Any
            }
            _ => false,
        }
    }
}

/// The traps that are armed.
#[derive(Default, Debug)]
pub(super) struct Traps {
    armed: Mutex<Vec<Arc<State>>>,
    sprung: AtomicU64,
}

impl Traps {
    pub(super) fn arm(&self, trap: Trap) -> ArmedTrap {
        assert!(trap.nth > 0, "a trap counts from 1");
        let state = Arc::new(State { trap, met: AtomicU64::new(0), times: AtomicU64::new(0) });
        self.armed().push(Arc::clone(&state));
        ArmedTrap(state)
    }

    pub(super) fn disarm_all(&self) {
        self.armed().clear();
    }

    /// Lets every trap count this, and returns what is to be done. Should several spring at once, the first one armed
    /// is obeyed.
    pub(super) fn meet(&self, happening: Happening<'_>) -> Option<Act> {
        let mut act = None;
        self.armed().retain(|state| {
            if !state.trap.moment.is(happening) {
                return true;
            }
            let met = state.met.fetch_add(1, Ordering::SeqCst) + 1;
            let springs = met.is_multiple_of(state.trap.nth);
            if springs {
                state.times.fetch_add(1, Ordering::SeqCst);
                self.sprung.fetch_add(1, Ordering::SeqCst);
                act = act.or(Some(state.trap.act));
            }
            !springs || state.trap.repeat
        });
        act
    }

    /// Whether a trap will count the reply to this command.
    pub(super) fn await_reply_to(&self, command: &Command) -> bool {
        self.armed().iter().any(|state| state.trap.moment.is(Happening::Reply(command)))
    }

    /// How often any trap has sprung.
    pub(super) fn sprung(&self) -> u64 {
        self.sprung.load(Ordering::SeqCst)
    }

    fn armed(&self) -> MutexGuard<'_, Vec<Arc<State>>> {
        self.armed.lock().expect("nobody panics with the traps in hand")
    }
}
