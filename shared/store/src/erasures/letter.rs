//! Takes the events of a subject out of a dead letter.

use memchr::memmem;
use millrace_event::entry::{pack_rows, unpack_any};
use millrace_event::plan::ProjectId;
use millrace_event::row::{self, Row};
use millrace_event::undeliverable::UndeliverableCall;

use super::text::is_value;
use crate::rows_of_letter;

/// What an erasure reads of a letter.
#[derive(Debug)]
pub(crate) struct LetterRead {
    pub(crate) id: i64,
    pub(crate) project: ProjectId,
    pub(crate) event_index: Option<u32>,
    pub(crate) event_count: u64,
    pub(crate) code: Option<String>,
    pub(crate) payload: Vec<u8>,
}

/// What becomes of a letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum LetterErasure {
    Kept,
    /// It cannot be read, so nothing can be found in it.
    Unreadable,
    /// All its events are the subject's, or it cannot be read as events and names the subject.
    Deleted,
    /// It keeps the events of others.
    Rewritten {
        payload: Vec<u8>,
        /// Events that are left.
        event_count: u64,
    },
}

/// Decides what becomes of a letter.
pub(crate) fn erase_from_letter(letter: &LetterRead, subject: &str) -> LetterErasure {
    let code = letter.code.as_deref();
    let rows = rows_of_letter(letter.project, letter.event_index, letter.event_count, code, &letter.payload);
    let Ok(rows) = rows else { return erase_unread(letter, subject) };
    let rows: Vec<&[u8]> = row::split(&rows).filter_map(Result::ok).collect();
    let kept: Vec<&[u8]> = rows.iter().copied().filter(|row| !is_of(row, subject)).collect();
    match kept.len() {
        left if left == rows.len() => LetterErasure::Kept,
        0 => LetterErasure::Deleted,
        left => {
            LetterErasure::Rewritten { payload: pack_rows(&kept.concat()).to_vec(), event_count: left as u64 }
        }
    }
}

fn is_of(row: &[u8], subject: &str) -> bool {
    match UndeliverableCall::read(row) {
        Some(call) => is_value(call.call, subject),
        None => match Row::read(row) {
            Ok(event) => event.subject == Some(subject),
            Err(_) => has_field(row, subject),
        },
    }
}

/// A call as it was sent, or rows that are damaged.
fn erase_unread(letter: &LetterRead, subject: &str) -> LetterErasure {
    let names = |bytes: &[u8]| is_value(bytes, subject) || has_field(bytes, subject);
    if names(&letter.payload) {
        return LetterErasure::Deleted;
    }
    if letter.event_index.is_some() || letter.payload.is_empty() {
        return LetterErasure::Kept;
    }
    match unpack_any(&letter.payload) {
        Ok(rows) if names(&rows) => LetterErasure::Deleted,
        Ok(_) => LetterErasure::Kept,
        Err(_) => LetterErasure::Unreadable,
    }
}

/// Whether bytes of rows have a field that is this text: its length comes before it.
fn has_field(bytes: &[u8], subject: &str) -> bool {
    let length = u32::try_from(subject.len()).unwrap_or(u32::MAX).to_be_bytes();
    memmem::find(bytes, &[&length, subject.as_bytes()].concat()).is_some()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const PROJECT: ProjectId = ProjectId(7);

    fn row(id: u128, subject: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        Row { subject: Some(subject), ..Row::bare(PROJECT, Uuid::from_u128(id), "seen") }.write(&mut bytes);
        bytes
    }

    fn letter(event_index: Option<u32>, event_count: u64, payload: Vec<u8>) -> LetterRead {
        LetterRead { id: 1, project: PROJECT, event_index, event_count, code: None, payload }
    }

    #[test]
    fn a_letter_of_many_keeps_the_events_of_others() {
        let rows = [row(1, "alice"), row(2, "bob"), row(3, "alice")].concat();
        let erased = erase_from_letter(&letter(None, 3, pack_rows(&rows).to_vec()), "alice");
        let LetterErasure::Rewritten { payload, event_count: 1 } = erased else { panic!("{erased:?}") };
        let again = letter(None, 1, payload);
        assert_eq!(erase_from_letter(&again, "alice"), LetterErasure::Kept);
        assert_eq!(erase_from_letter(&again, "bob"), LetterErasure::Deleted);
    }

    #[test]
    fn a_letter_of_one_event_is_deleted_only_for_its_subject() {
        let one = letter(Some(0), 1, row(1, "alice"));
        assert_eq!(erase_from_letter(&one, "alice"), LetterErasure::Deleted);
        assert_eq!(erase_from_letter(&one, "alic"), LetterErasure::Kept);
    }

    #[test]
    fn damaged_rows_and_calls_are_deleted_when_they_name_the_subject() {
        let mut cut = row(1, "alice");
        cut.truncate(cut.len() - 3);
        let damaged = letter(None, 1, pack_rows(&cut).to_vec());
        assert_eq!(erase_from_letter(&damaged, "alice"), LetterErasure::Deleted);
        assert_eq!(erase_from_letter(&damaged, "bob"), LetterErasure::Kept);
        let call = LetterRead {
            code: Some("invalid_type".to_owned()),
            ..letter(Some(0), 1, br#"{"userId":"alice"}"#.to_vec())
        };
        assert_eq!(erase_from_letter(&call, "alice"), LetterErasure::Deleted);
        assert_eq!(erase_from_letter(&call, "bob"), LetterErasure::Kept);
        let unreadable = letter(None, 1, b"not compressed".to_vec());
        assert_eq!(erase_from_letter(&unreadable, "alice"), LetterErasure::Unreadable);
    }
}
