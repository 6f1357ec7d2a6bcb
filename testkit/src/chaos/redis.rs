//! What passes between a client and Redis: where a message ends (RESP2 and RESP3), and which command a reply belongs
//! to. It understands no more than that. A decoder that builds values would read a large message again from its
//! beginning for every piece of it that arrives.
//!
//! Every command has one reply and replies keep the order, but for pushes, which are marked. Subscriptions and
//! `CLIENT REPLY`, which break this rule, must not pass through a proxy with traps.

use std::collections::VecDeque;

use super::frames::Scan;
use super::pump::Verdict;
use super::trap::{Call, Happening, Traps};

/// Longer lines are no lines of Redis: its own limit.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Longer strings are no strings of Redis: its own default limit.
const STRING_BYTES_MAX: u64 = 512 << 20;
/// More values in one message are garbage.
const VALUES_MAX: u64 = 1 << 32;
/// So much of a command is remembered until its reply comes.
const HEAD_BYTES: usize = 4 << 10;

/// Finds the ends of messages. Keeps its place in a message that is not yet whole.
#[derive(Default, Debug)]
pub(super) struct Scanner {
    /// Bytes that are understood; may lie beyond those that are there.
    at: usize,
    /// Values that must still come to make the message whole; 0 between messages.
    values: u64,
}

impl Scanner {
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scan {
        if self.at == 0 {
            self.values = 1;
        }
        while self.values > 0 {
            let Some(rest) = bytes.get(self.at..) else { return Scan::Partial };
            let Some(length) = rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
                return if rest.len() < LINE_BYTES_MAX { Scan::Partial } else { Scan::Garbage };
            };
            let understood = if self.at == 0 && rest[0].is_ascii_alphabetic() {
                // An inline command, as people type them.
                self.values = 0;
                Some(length + 1)
            } else {
                self.value(&rest[..length]).map(|behind_line| length + 1 + behind_line)
            };
            let Some(understood) = understood else { return Scan::Garbage };
            self.at += understood;
        }
        if self.at > bytes.len() {
            return Scan::Partial;
        }
        Scan::Whole(std::mem::take(&mut self.at))
    }

    /// Takes the line that begins a value, and returns how many bytes belong to the value behind the line. `None` when
    /// it is no such line.
    fn value(&mut self, line: &[u8]) -> Option<usize> {
        let (kind, argument) = line.strip_suffix(b"\r")?.split_first()?;
        let is_attribute = *kind == b'|';
        let mut string_bytes = 0;
        let mut inner_values = 0;
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {}
            b'$' | b'!' | b'=' => {
                // A string that is not there has no end of line either.
                let length = length(argument)?;
                let string = length.filter(|length| *length <= STRING_BYTES_MAX);
                string_bytes = if length.is_none() { 0 } else { usize::try_from(string? + 2).ok()? };
            }
            b'*' | b'~' | b'>' => inner_values = length(argument)?.unwrap_or(0),
            b'%' | b'|' => inner_values = length(argument)?.unwrap_or(0).checked_mul(2)?,
            _ => return None,
        }
        let counted = u64::from(!is_attribute);
        let values = (self.values - counted).checked_add(inner_values)?;
        self.values = Some(values).filter(|values| *values <= VALUES_MAX)?;
        Some(string_bytes)
    }
}

/// A length, or `Some(None)` for -1, which says that there is no value.
fn length(digits: &[u8]) -> Option<Option<u64>> {
    if digits == b"-1" {
        return Some(None);
    }
    Some(Some(std::str::from_utf8(digits).ok()?.parse().ok()?))
}

/// The beginning of a command.
#[derive(Debug)]
pub(super) struct Command(Vec<u8>);

impl Command {
    fn new(message: &[u8]) -> Self {
        Self(message[..message.len().min(HEAD_BYTES)].to_vec())
    }

    /// Its name: the third line of an array of strings, the first word of an inline command.
    fn name(&self) -> &[u8] {
        let line = if self.0.starts_with(b"*") { 2 } else { 0 };
        let line = self.0.split(|byte| *byte == b'\n').nth(line).unwrap_or_default();
        line.split(u8::is_ascii_whitespace).next().unwrap_or_default()
    }

    pub(super) fn is(&self, call: Call) -> bool {
        let contains = |text: &str| self.0.windows(text.len()).any(|window| window == text.as_bytes());
        self.name().eq_ignore_ascii_case(call.name.as_bytes()) && call.containing.is_none_or(contains)
    }
}

/// What was said on one connection, as far as it matters for what is said next.
#[derive(Default, Debug)]
pub(super) struct Talk {
    unanswered: VecDeque<Command>,
}

impl Talk {
    pub(super) fn request(&mut self, message: &[u8], traps: &Traps) -> Verdict {
        let command = Command::new(message);
        let before = traps.meet(Happening::Command(&command));
        let waits = traps.await_reply_to(&command);
        self.unanswered.push_back(command);
        Verdict { before, waits, turns: 1, ..Verdict::default() }
    }

    pub(super) fn reply(&mut self, message: &[u8], traps: &Traps) -> Verdict {
        if message.starts_with(b">") {
            return Verdict::default();
        }
        let command = self.unanswered.pop_front();
        let executed = command.filter(|_| !message.starts_with(b"-"));
        let before = executed.and_then(|command| traps.meet(Happening::Reply(&command)));
        Verdict { before, turns: 1, ..Verdict::default() }
    }
}
