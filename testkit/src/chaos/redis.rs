//! The Redis protocol (RESP2 and RESP3), as far as traps need it: where a message ends, and which command a
//! reply belongs to. The scanner does not build values, because a decoder that does would read a large
//! message from its start for every piece that arrives.
//!
//! Every command has one reply, and replies keep the order of the commands. Pushes are the exception; they
//! are marked. Subscriptions and `CLIENT REPLY` break this rule and must not pass through a proxy with traps.

use std::collections::VecDeque;

use super::command::Command;
use super::plan::MessagePlan;
use super::scan::Scan;
use super::trap::{ProtocolEvent, Traps};

/// Redis's own limit on the length of a line.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Redis's own default limit on the length of a string.
const STRING_BYTES_MAX: u64 = 512 << 20;
/// A message with more values is taken for garbage.
const VALUES_MAX: u64 = 1 << 32;

/// Finds the ends of messages. It remembers its position in an incomplete message.
#[derive(Default, Debug)]
pub(super) struct Scanner {
    /// Bytes already scanned. It may exceed the number of bytes received.
    at: usize,
    /// Values still missing from the message; 0 between messages.
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
            let scanned = if self.at == 0 && rest[0].is_ascii_alphabetic() {
                // An inline command.
                self.values = 0;
                Some(length + 1)
            } else {
                self.value(&rest[..length]).map(|behind_line| length + 1 + behind_line)
            };
            let Some(scanned) = scanned else { return Scan::Garbage };
            self.at += scanned;
        }
        if self.at > bytes.len() {
            return Scan::Partial;
        }
        Scan::Complete(std::mem::take(&mut self.at))
    }

    /// Interprets the first line of a value and returns the number of bytes that follow the line and belong
    /// to the value. `None` when the line does not start a value.
    fn value(&mut self, line: &[u8]) -> Option<usize> {
        let (kind, argument) = line.strip_suffix(b"\r")?.split_first()?;
        let is_attribute = *kind == b'|';
        let mut string_bytes = 0;
        let mut inner_values = 0;
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {}
            b'$' | b'!' | b'=' => {
                // A null string (length -1) has no bytes and no line end.
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

/// A length, or `Some(None)` for -1, which stands for a null value.
fn length(digits: &[u8]) -> Option<Option<u64>> {
    if digits == b"-1" {
        return Some(None);
    }
    Some(Some(std::str::from_utf8(digits).ok()?.parse().ok()?))
}

/// The commands of one connection that have no reply yet.
#[derive(Default, Debug)]
pub(super) struct Conversation {
    unanswered: VecDeque<Command>,
}

impl Conversation {
    pub(super) fn request(&mut self, message: &[u8], traps: &Traps) -> MessagePlan {
        let command = Command::new(message);
        let before = traps.count(ProtocolEvent::Command(&command));
        let waits = traps.await_reply_to(&command);
        self.unanswered.push_back(command);
        MessagePlan { before, waits, replies: 1, ..MessagePlan::default() }
    }

    pub(super) fn reply(&mut self, message: &[u8], traps: &Traps) -> MessagePlan {
        if message.starts_with(b">") {
            return MessagePlan::default();
        }
        let command = self.unanswered.pop_front();
        let executed = command.filter(|_| !message.starts_with(b"-"));
        let before = executed.and_then(|command| traps.count(ProtocolEvent::Reply(&command, message)));
        MessagePlan { before, replies: 1, ..MessagePlan::default() }
    }
}
