//! The PostgreSQL protocol, as far as traps need it: where a message ends, and which messages belong to a
//! COPY or a COMMIT.

use super::plan::MessagePlan;
use super::scan::Scan;
use super::trap::{ProtocolEvent, Traps};
use super::wire::Direction;

/// PostgreSQL's own limit on the length of the first message.
const STARTUP_BYTES_MAX: usize = 10_000;
/// PostgreSQL's own limit on the length of a message.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// The codes with which a client requests TLS or GSSAPI. After the answer the client sends a startup message.
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];
/// Bytes of the kind (1) and of the length (4).
const HEAD_BYTES: usize = 5;

/// Finds the ends of messages.
#[derive(Debug)]
pub(super) struct Scanner {
    direction: Direction,
    /// Whether the startup is over and messages have a kind. Before that, messages of the client have none,
    /// and the server answers requests for encryption with a single byte.
    has_begun: bool,
}

impl Scanner {
    pub(super) fn new(direction: Direction) -> Self {
        Self { direction, has_begun: false }
    }

    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scan {
        if self.has_begun {
            return message(bytes);
        }
        match self.direction {
            Direction::Up => self.startup(bytes),
            Direction::Down => self.first_answer(bytes),
        }
    }

    fn startup(&mut self, bytes: &[u8]) -> Scan {
        let (Some(length), Some(code)) = (number(bytes, 0), number(bytes, 4)) else { return Scan::Partial };
        let length = length as usize;
        if !(8..=STARTUP_BYTES_MAX).contains(&length) {
            return Scan::Garbage;
        }
        if bytes.len() < length {
            return Scan::Partial;
        }
        self.has_begun = !ENCRYPTION_REQUESTS.contains(&code);
        Scan::Complete(length)
    }

    fn first_answer(&mut self, bytes: &[u8]) -> Scan {
        match bytes.first() {
            None => Scan::Partial,
            Some(b'S' | b'N' | b'G') => Scan::Complete(1),
            Some(_) => {
                self.has_begun = true;
                message(bytes)
            }
        }
    }
}

fn message(bytes: &[u8]) -> Scan {
    let (Some(kind), Some(length)) = (bytes.first(), number(bytes, 1)) else { return Scan::Partial };
    let length = length as usize;
    if !kind.is_ascii_alphanumeric() || !(4..=MESSAGE_BYTES_MAX).contains(&length) {
        return Scan::Garbage;
    }
    if bytes.len() > length { Scan::Complete(length + 1) } else { Scan::Partial }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let number = bytes.get(at..at + 4)?.try_into().expect("four bytes are four bytes");
    Some(u32::from_be_bytes(number))
}

/// The state of the transaction on one connection.
#[derive(Default, Debug)]
pub(super) struct Conversation {
    /// Whether rows were copied since the last COMMIT.
    copied: bool,
    /// Whether rows were copied in the transaction whose COMMIT was forwarded.
    committing: bool,
    /// The same for a transaction whose COMMIT was answered, until ReadyForQuery arrives.
    committed: Option<bool>,
}

impl Conversation {
    pub(super) fn request(&mut self, message: &[u8], traps: &Traps) -> MessagePlan {
        let Some((kind, body)) = kind_and_body(message) else { return MessagePlan::default() };
        match kind {
            b'd' => {
                self.copied = true;
                MessagePlan { after: traps.count(ProtocolEvent::CopyData), ..MessagePlan::default() }
            }
            b'c' => MessagePlan { before: traps.count(ProtocolEvent::CopyDone), ..MessagePlan::default() },
            b'Q' | b'P' if asks_to_commit(kind, body) => {
                self.committing = std::mem::take(&mut self.copied);
                let copied = self.committing;
                MessagePlan {
                    before: traps.count(ProtocolEvent::CommitSent { copied }),
                    ..MessagePlan::default()
                }
            }
            _ => MessagePlan::default(),
        }
    }

    pub(super) fn reply(&mut self, message: &[u8], traps: &Traps) -> MessagePlan {
        match kind_and_body(message) {
            // A COMMIT that failed is answered "ROLLBACK".
            Some((b'C', b"COMMIT\0")) => {
                let copied = std::mem::take(&mut self.committing);
                self.committed = Some(copied);
                MessagePlan {
                    before: traps.count(ProtocolEvent::CommitAnswered { copied }),
                    ..MessagePlan::default()
                }
            }
            Some((b'Z', status)) => {
                if status == b"I" {
                    // No transaction is open: the copied rows are committed or rolled back.
                    self.copied = false;
                }
                let committed = self.committed.take();
                let after =
                    committed.and_then(|copied| traps.count(ProtocolEvent::CommitDelivered { copied }));
                MessagePlan { after, ..MessagePlan::default() }
            }
            _ => MessagePlan::default(),
        }
    }
}

/// The first message of a client has no kind. It starts with a zero byte, which is not a kind.
fn kind_and_body(message: &[u8]) -> Option<(u8, &[u8])> {
    Some((*message.first()?, message.get(HEAD_BYTES..)?))
}

/// Whether this simple query, or this statement to parse, consists of COMMIT only.
fn asks_to_commit(kind: u8, body: &[u8]) -> bool {
    // A Parse message has the statement's name before its text.
    let text = body.split(|byte| *byte == 0).nth(usize::from(kind == b'P')).unwrap_or_default();
    let text = text.trim_ascii();
    text.strip_suffix(b";").unwrap_or(text).eq_ignore_ascii_case(b"COMMIT")
}
