//! A call that was accepted although no event can be made of it, as a row of its batch. The worker writes it
//! to the dead letters, so that nothing accepted is lost.
//!
//! It uses the fields of a [`crate::row`]: the time is [`EventTime::Undeliverable`], the name holds the code,
//! the subject the message, and the properties the call as it was sent. Writing and reading are in this file.

use uuid::Uuid;

use crate::plan::ProjectId;
use crate::row::{self, EventTime, Row};

/// The most bytes of a call that are kept.
pub const CALL_BYTES_MAX: usize = 64 << 10;

/// A call that no event can be made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UndeliverableCall<'a> {
    pub project: ProjectId,
    /// A [`crate::event::RejectionCode`] in snake case.
    pub code: &'a str,
    /// What is wrong, for operators and owners.
    pub message: &'a str,
    /// The call as it was sent, of any bytes; cut after [`CALL_BYTES_MAX`].
    pub call: &'a [u8],
}

impl UndeliverableCall<'_> {
    /// Appends the row to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let row = Row {
            time: EventTime::Undeliverable,
            subject: Some(self.message),
            properties: Some(&self.call[..self.call.len().min(CALL_BYTES_MAX)]),
            ..Row::bare(self.project, Uuid::nil(), self.code)
        };
        row.write(out);
    }
}

impl<'a> UndeliverableCall<'a> {
    /// Reads a row from [`row::split`]. `None` when it is an event.
    ///
    /// A mark without the fields of a call is read as a call without them: it must not be lost either.
    pub fn read(row: &'a [u8]) -> Option<Self> {
        if row::time(row) != EventTime::Undeliverable {
            return None;
        }
        let [code, message, _, call, _] = row::variable_fields(row);
        let text = |field: Option<&'a [u8]>| field.and_then(|bytes| std::str::from_utf8(bytes).ok());
        Some(Self {
            project: row::project(row),
            code: text(code).unwrap_or("invalid_event"),
            message: text(message).unwrap_or("the call cannot be read"),
            // Without the version byte of jsonb.
            call: call.and_then(|field| field.get(1..)).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_any_bytes_is_read_as_it_was_written() {
        let call = UndeliverableCall {
            project: ProjectId(7),
            code: "invalid_type",
            message: "type must be one of track, identify",
            call: b"{\"type\":\"\xFF\0\ttrakc\"}",
        };
        let mut rows = Vec::new();
        call.write(&mut rows);
        let split: Vec<_> = row::split(&rows).collect::<Result<_, _>>().unwrap();
        assert_eq!(split.len(), 1);
        assert_eq!(UndeliverableCall::read(split[0]), Some(call));
    }

    #[test]
    fn a_long_call_is_cut() {
        let long = vec![b'x'; CALL_BYTES_MAX + 1];
        let call = UndeliverableCall { project: ProjectId(1), code: "too_deep", message: "m", call: &long };
        let mut row = Vec::new();
        call.write(&mut row);
        assert_eq!(UndeliverableCall::read(&row).unwrap().call.len(), CALL_BYTES_MAX);
    }

    #[test]
    fn an_event_is_no_undeliverable_call() {
        let row = Row::bare(ProjectId(1), Uuid::nil(), "a");
        let mut bytes = Vec::new();
        row.write(&mut bytes);
        assert_eq!(UndeliverableCall::read(&bytes), None);
    }
}
