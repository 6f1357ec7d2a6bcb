//! Where the marker of a batch is, and what it says. The scripts write markers; see `group_markers.lua`.
//!
//! A batch whose id names a group has a record in a string that 64 consecutive places of the group share: one
//! key to read, write and expire instead of 64. Another batch has a string of its own.

use redis::{Cmd, Value};

use super::keys::{MarkerString, ShardKeys};
use super::numbered::Numbered;
use super::reply;
use crate::{AcknowledgedBatch, BatchId, BatchState, Outcome, StreamError};
use millrace_event::BatchGroup;
use millrace_event::plan::ProjectId;

/// Places of a group that share a string. Redis reads the whole string for each call, and Lua hashes it.
const PLACES: u8 = 64;
/// Before the records: how many of them are pending.
const HEADER_BYTES: usize = 4;
/// State, project (8 bytes), events (4), received_ms (6), and the four numbers of the outcome (4 each).
const RECORD_BYTES: usize = 35;

/// Where the marker of a batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MarkerPlace {
    pub(super) string: MarkerString,
    /// Its record in the string of a group, from 1; 0 in a string of its own.
    pub(super) place: u8,
}

impl MarkerPlace {
    pub(super) fn of(batch_id: BatchId) -> Self {
        match BatchGroup::of(batch_id) {
            None => Self { string: MarkerString::Batch(batch_id), place: 0 },
            Some(BatchGroup { id, place }) => {
                let before = place - 1;
                Self { string: MarkerString::Group(id, before / PLACES), place: before % PLACES + 1 }
            }
        }
    }

    /// The marker in the value of its string. `None` when there is none.
    fn find(self, string: &[u8]) -> Option<&[u8]> {
        if self.place == 0 {
            return Some(string);
        }
        let begin = HEADER_BYTES + usize::from(self.place - 1) * RECORD_BYTES;
        string.get(begin..begin + RECORD_BYTES).filter(|record| record[0] != 0)
    }

    /// What the marker says, from the value of its string. `None` when there is none.
    ///
    /// # Errors
    /// [`StreamError::Refused`] when the marker is malformed.
    pub(super) fn read(self, value: Value) -> Result<Option<BatchState>, StreamError> {
        let string = reply::optional_bytes(value)?;
        let Some(marker) = string.as_deref().and_then(|string| self.find(string)) else { return Ok(None) };
        let state = match self.place {
            0 => str::from_utf8(marker).ok().and_then(parse_text),
            _ => parse_record(marker),
        };
        let malformed =
            || StreamError::Refused(format!("the marker '{}' is malformed", marker.escape_ascii()));
        state.map(Some).ok_or_else(malformed)
    }
}

/// Reads the strings that have the markers of these batches, each once.
pub(super) fn markers_command(keys: &ShardKeys, batches: &[AcknowledgedBatch]) -> Cmd {
    let mut strings = Numbered::default();
    for batch in batches {
        strings.number(MarkerPlace::of(batch.batch_id).string);
    }
    let mut command = redis::cmd("MGET");
    for string in strings.items() {
        command.arg(keys.markers(*string));
    }
    command
}

/// Those of these batches that have no marker, from the answer to [`markers_command`].
///
/// # Errors
/// [`StreamError::Refused`] when the answer is malformed.
pub(super) fn missing_markers(
    answer: Value,
    batches: &[AcknowledgedBatch],
) -> Result<Vec<AcknowledgedBatch>, StreamError> {
    let values = reply::array(answer)?.into_iter().map(reply::optional_bytes);
    let values = values.collect::<Result<Vec<_>, _>>()?;
    let mut strings = Numbered::default();
    let is_missing = |batch: &&AcknowledgedBatch| {
        let place = MarkerPlace::of(batch.batch_id);
        let value = values.get(strings.number(place.string) as usize - 1);
        value.and_then(Option::as_deref).and_then(|string| place.find(string)).is_none()
    };
    Ok(batches.iter().filter(is_missing).copied().collect())
}

/// `p flags project count received_ms digest`, or `s` with the same fields followed by `stored duplicate dead
/// conflict`. Workers of the release before write no `conflict`.
fn parse_text(marker: &str) -> Option<BatchState> {
    let words: Vec<&str> = marker.split(' ').collect();
    let project = ProjectId(words.get(2)?.parse().ok()?);
    let number = |at: usize| words.get(at)?.parse::<u32>().ok();
    match words[0] {
        "p" => Some(BatchState::Pending { project, count: number(3)? }),
        "s" => {
            let (stored, duplicate, dead) = (number(6)?, number(7)?, number(8)?);
            let outcome = Outcome { stored, duplicate, dead, conflict: number(9).unwrap_or(0) };
            Some(BatchState::Settled { project, outcome })
        }
        _ => None,
    }
}

fn parse_record(record: &[u8]) -> Option<BatchState> {
    let (state, rest) = record.split_first()?;
    let (project, rest) = rest.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let (outcome, _) = rest.get(6..)?.as_chunks::<4>();
    let project = ProjectId(i64::from_be_bytes(*project));
    match state {
        b'p' => Some(BatchState::Pending { project, count: u32::from_be_bytes(*count) }),
        b's' => {
            let [stored, duplicate, dead, conflict] =
                <[_; 4]>::try_from(outcome).ok()?.map(u32::from_be_bytes);
            Some(BatchState::Settled { project, outcome: Outcome { stored, duplicate, dead, conflict } })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_place_of_a_group_has_a_record_of_its_own_in_four_strings() {
        let first = BatchGroup::first(1_795_219_200_000_000, 7);
        let places: Vec<_> = std::iter::successors(Some(first), |group| group.next())
            .map(|group| MarkerPlace::of(group.batch_id()))
            .collect();
        assert_eq!(places.len(), 255);
        assert!(places.iter().all(|marker| (1..=PLACES).contains(&marker.place)));
        let records: HashSet<_> = places.iter().map(|marker| (marker.string, marker.place)).collect();
        assert_eq!(records.len(), 255);
        let strings: HashSet<_> = places.iter().map(|marker| marker.string).collect();
        assert_eq!(strings.len(), 4);
    }

    #[test]
    fn a_batch_without_a_group_has_a_string_of_its_own() {
        let id = Uuid::new_v4();
        let own = MarkerPlace { string: MarkerString::Batch(id), place: 0 };
        assert_eq!(MarkerPlace::of(id), own);
    }

    #[test]
    fn a_string_that_ends_before_a_record_has_no_marker_for_it_and_a_damaged_one_is_refused() {
        let read = |place, bytes: &[u8]| {
            MarkerPlace { string: MarkerString::Group(Uuid::nil(), 0), place }
                .read(Value::BulkString(bytes.to_vec()))
        };
        let mut bytes = vec![0; HEADER_BYTES + 2 * RECORD_BYTES];
        assert_eq!(read(2, &bytes).unwrap(), None);
        bytes[HEADER_BYTES + RECORD_BYTES] = b'p';
        assert_eq!(read(2, &bytes).unwrap(), Some(BatchState::Pending { project: ProjectId(0), count: 0 }));
        assert_eq!(read(1, &bytes).unwrap(), None);
        assert_eq!(read(3, &bytes).unwrap(), None);
        bytes[HEADER_BYTES] = b'x';
        assert!(read(1, &bytes).unwrap_err().to_string().contains("malformed"));
    }
}
