//! Traps: perform an act on the connection on which a moment occurs for the n-th time. Traps count and
//! decide; the pumps of the connection perform the act.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::command::Command;
use super::wire::Wire;

/// Performs `act` on the connection on which `moment` occurs for the `nth` time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trap {
    pub moment: Moment,
    /// Counted from 1, since the arming, over all connections of the proxy.
    pub nth: u64,
    pub act: Act,
    /// Whether the trap springs again at every multiple of `nth`.
    pub repeat: bool,
}

impl Trap {
    /// Springs once, at the first occurrence.
    pub fn first(moment: Moment, act: Act) -> Self {
        Self::nth(1, moment, act)
    }

    /// Springs once, at the n-th occurrence.
    pub fn nth(nth: u64, moment: Moment, act: Act) -> Self {
        Self { moment, nth, act, repeat: false }
    }

    /// Springs repeatedly, at every n-th occurrence.
    pub fn every(nth: u64, moment: Moment, act: Act) -> Self {
        Self { moment, nth, act, repeat: true }
    }
}

/// A point in the protocol of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// Redis: a command is about to be forwarded. Unless the act is a pause, it is not. Earlier commands are
    /// answered first.
    Command(Call),
    /// Redis: the command was executed; its reply has reached the proxy but not the client. Earlier replies
    /// have been delivered. While such a trap is armed, commands behind one that it counts wait for that
    /// command's reply, so that they are not executed. Error replies do not count, because their commands
    /// were not executed.
    Reply(Call),
    /// PostgreSQL: a part of a COPY was forwarded. More parts, or the end, follow.
    CopyData,
    /// PostgreSQL: the end of a COPY is about to be forwarded. Unless the act is a pause, it is not.
    CopyDone,
    /// PostgreSQL: COMMIT, as a simple query or a statement to parse, is about to be forwarded. Unless the
    /// act is a pause, it is not. Earlier messages are.
    CommitSent(Transaction),
    /// PostgreSQL: COMMIT has succeeded; the answer has reached the proxy but not the client.
    CommitAnswered(Transaction),
    /// PostgreSQL: COMMIT has succeeded and the client has its answer, up to ReadyForQuery.
    CommitDelivered(Transaction),
}

/// How much of a reply is searched for a text.
const REPLY_BYTES_SEARCHED: usize = 4 << 10;

/// Selects Redis commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// The command name, in upper or lower case.
    pub name: &'static str,
    /// Text that must occur in the first 4 KiB of the command, such as the name of a key.
    pub containing: Option<&'static str>,
    /// Text that must occur in the first 4 KiB of the reply. It has no effect on [`Moment::Command`].
    pub answered_with: Option<&'static str>,
}

impl Call {
    /// All commands of this name.
    pub const fn named(name: &'static str) -> Self {
        Self { name, containing: None, answered_with: None }
    }

    /// Only the commands that contain `text`.
    pub const fn containing(self, text: &'static str) -> Self {
        Self { containing: Some(text), ..self }
    }

    /// Only the commands whose reply contains `text`.
    pub const fn answered_with(self, text: &'static str) -> Self {
        Self { answered_with: Some(text), ..self }
    }

    fn matches_reply(self, reply: &[u8]) -> bool {
        let head = &reply[..reply.len().min(REPLY_BYTES_SEARCHED)];
        self.answered_with.is_none_or(|text| head.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    fn matches(self, command: &Command) -> bool {
        command.name().eq_ignore_ascii_case(self.name.as_bytes())
            && self.containing.is_none_or(|text| command.contains(text))
    }
}

/// Selects PostgreSQL transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transaction {
    Any,
    /// Transactions in which rows were copied.
    WithCopy,
}

/// What a trap does to the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Resets both sides immediately.
    Cut,
    /// Resets the client's side. The server receives everything that was forwarded, then a clean close; what
    /// it still sends is discarded.
    CutReply,
    /// Stops this direction until `ChaosProxy::cut_held` turns the act into a `CutReply`, or until the proxy
    /// is healed and the direction continues.
    Hold,
    /// Silently discards everything on this connection until the proxy is healed or all connections are
    /// reset.
    BlackHole,
    /// Stops this direction for `ms` milliseconds, or until the proxy is healed. Then it continues.
    Pause { ms: u64 },
}

/// A handle to a trap of a proxy. Dropping it does not disarm the trap.
#[derive(Clone, Debug)]
pub struct ArmedTrap(Arc<TrapState>);

impl ArmedTrap {
    pub fn sprung(&self) -> bool {
        self.times() > 0
    }

    /// How often the trap has sprung.
    pub fn times(&self) -> u64 {
        self.0.times.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct TrapState {
    trap: Trap,
    occurrences: AtomicU64,
    times: AtomicU64,
}

/// An occurrence of a moment, with what traps need to recognize it.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProtocolEvent<'a> {
    Command(&'a Command),
    Reply(&'a Command, &'a [u8]),
    CopyData,
    CopyDone,
    CommitSent { copied: bool },
    CommitAnswered { copied: bool },
    CommitDelivered { copied: bool },
}

impl Moment {
    /// The protocol that this moment belongs to.
    pub(super) fn wire(self) -> Wire {
        match self {
            Self::Command(_) | Self::Reply(_) => Wire::Redis,
            _ => Wire::Postgres,
        }
    }

    fn is(self, event: ProtocolEvent<'_>) -> bool {
        match (self, event) {
            (Self::Command(call), ProtocolEvent::Command(command)) => call.matches(command),
            (Self::Reply(call), ProtocolEvent::Reply(command, reply)) => {
                call.matches(command) && call.matches_reply(reply)
            }
            (Self::CopyData, ProtocolEvent::CopyData) | (Self::CopyDone, ProtocolEvent::CopyDone) => true,
            (Self::CommitSent(selected), ProtocolEvent::CommitSent { copied })
            | (Self::CommitAnswered(selected), ProtocolEvent::CommitAnswered { copied })
            | (Self::CommitDelivered(selected), ProtocolEvent::CommitDelivered { copied }) => {
                copied || selected == Transaction::Any
            }
            _ => false,
        }
    }
}

/// The armed traps of a proxy.
#[derive(Default, Debug)]
pub(super) struct Traps {
    armed: Mutex<Vec<Arc<TrapState>>>,
    sprung: AtomicU64,
}

impl Traps {
    pub(super) fn arm(&self, trap: Trap) -> ArmedTrap {
        assert!(trap.nth > 0, "a trap counts from 1");
        let state = Arc::new(TrapState { trap, occurrences: AtomicU64::new(0), times: AtomicU64::new(0) });
        self.armed().push(Arc::clone(&state));
        ArmedTrap(state)
    }

    pub(super) fn disarm_all(&self) {
        self.armed().clear();
    }

    /// Lets every trap count the event and returns the act to perform. When several traps spring, the one
    /// that was armed first decides.
    pub(super) fn count(&self, event: ProtocolEvent<'_>) -> Option<Act> {
        let mut act = None;
        self.armed().retain(|state| {
            if !state.trap.moment.is(event) {
                return true;
            }
            let occurrences = state.occurrences.fetch_add(1, Ordering::SeqCst) + 1;
            let springs = occurrences.is_multiple_of(state.trap.nth);
            if springs {
                state.times.fetch_add(1, Ordering::SeqCst);
                self.sprung.fetch_add(1, Ordering::SeqCst);
                act = act.or(Some(state.trap.act));
            }
            !springs || state.trap.repeat
        });
        act
    }

    /// Whether an armed trap counts the reply to this command.
    pub(super) fn await_reply_to(&self, command: &Command) -> bool {
        self.armed()
            .iter()
            .any(|state| matches!(state.trap.moment, Moment::Reply(call) if call.matches(command)))
    }

    /// How often any trap has sprung.
    pub(super) fn sprung(&self) -> u64 {
        self.sprung.load(Ordering::SeqCst)
    }

    fn armed(&self) -> MutexGuard<'_, Vec<Arc<TrapState>>> {
        self.armed.lock().expect("no thread panics while it holds the traps")
    }
}
