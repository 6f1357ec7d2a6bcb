//! What passes between a client and PostgreSQL: where a message ends, and which ones belong to a COPY or a COMMIT. It
//! understands no more than that.

use super::frames::Scan;
use super::pump::Verdict;
use super::trap::{Happening, Traps};
use super::weather::Direction;

/// A longer first message is none of PostgreSQL's: its own limit.
const STARTUP_BYTES_MAX: usize = 10_000;
/// A longer message is none of PostgreSQL's: its own limit.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// What a client says first when it would like to speak TLS, or GSSAPI. It begins again after the answer.
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];
/// The lengths of a kind and of a length.
const HEAD_BYTES: usize = 5;

/// Finds the ends of messages.
#[derive(Debug)]
pub(super) struct Scanner {
    direction: Direction,
    /// Whether messages have a kind from now on. Until then a client's have none, and a server answers requests for
    /// encryption with a single byte.
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
        Scan::Whole(length)
    }

    fn first_answer(&mut self, bytes: &[u8]) -> Scan {
        match bytes.first() {
            None => Scan::Partial,
            Some(b'S' | b'N' | b'G') => Scan::Whole(1),
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
    if bytes.len() > length { Scan::Whole(length + 1) } else { Scan::Partial }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let number = bytes.get(at..at + 4)?.try_into().expect("four bytes are four bytes");
    Some(u32::from_be_bytes(number))
}

/// What was said on one connection, as far as it matters for what is said next.
#[derive(Default, Debug)]
pub(super) struct Talk {
    /// Whether rows were copied since the last COMMIT.
    copied: bool,
    /// Whether rows were copied in the transaction whose COMMIT was passed on.
    committing: bool,
    /// The same of one whose COMMIT was answered; the client is still to be told that it may go on.
    committed: Option<bool>,
}

impl Talk {
    pub(super) fn request(&mut self, message: &[u8], traps: &Traps) -> Verdict {
        let Some((kind, body)) = kind_and_body(message) else { return Verdict::default() };
        match kind {
            b'd' => {
                self.copied = true;
                Verdict { after: traps.meet(Happening::CopyData), ..Verdict::default() }
            }
            b'c' => Verdict { before: traps.meet(Happening::CopyDone), ..Verdict::default() },
            b'Q' | b'P' if asks_to_commit(kind, body) => {
                self.committing = std::mem::take(&mut self.copied);
                let copied = self.committing;
                Verdict { before: traps.meet(Happening::CommitSent { copied }), ..Verdict::default() }
            }
            _ => Verdict::default(),
        }
    }

    pub(super) fn reply(&mut self, message: &[u8], traps: &Traps) -> Verdict {
        match kind_and_body(message) {
            // A COMMIT that failed is answered "ROLLBACK".
            Some((b'C', b"COMMIT\0")) => {
                let copied = std::mem::take(&mut self.committing);
                self.committed = Some(copied);
                Verdict { before: traps.meet(Happening::CommitAnswered { copied }), ..Verdict::default() }
            }
            Some((b'Z', status)) => {
                if status == b"I" {
                    // Whatever was copied is committed or rolled back.
                    self.copied = false;
                }
                let committed = self.committed.take();
                let after = committed.and_then(|copied| traps.meet(Happening::CommitDelivered { copied }));
                Verdict { after, ..Verdict::default() }
            }
            _ => Verdict::default(),
        }
    }
}

/// The first message of a client has no kind; what stands in its place is a zero, which is none.
fn kind_and_body(message: &[u8]) -> Option<(u8, &[u8])> {
    Some((*message.first()?, message.get(HEAD_BYTES..)?))
}

/// Whether COMMIT is all that this simple query, or this statement to be parsed, says.
fn asks_to_commit(kind: u8, body: &[u8]) -> bool {
    // A statement's name stands before its text.
    let text = body.split(|byte| *byte == 0).nth(usize::from(kind == b'P')).unwrap_or_default();
    let text = text.trim_ascii();
    text.strip_suffix(b";").unwrap_or(text).eq_ignore_ascii_case(b"COMMIT")
}
