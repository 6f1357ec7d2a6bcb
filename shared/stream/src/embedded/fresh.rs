//! What was just admitted, kept in memory until it is handed out: a lane that keeps up never has to read the file, and the
//! one that does not reads it where the memory ends.
//!
//! Only ever filled with what is on disk. What this room must never do: hold more than its bytes, or skip an entry.

use std::collections::VecDeque;

use super::position::Position;
use millrace_event::entry::PackedBatch;

/// PackedBatch bytes kept, at most.
const BYTES_MAX: usize = 32 << 20;
/// What an entry costs besides its packed bytes.
const ENTRY_BYTES: usize = 128;

/// The newest entries, oldest first, without a gap.
pub(super) struct Fresh {
    entries: VecDeque<(Position, PackedBatch)>,
    bytes: usize,
    /// Every entry after this one is here.
    complete_after: Position,
}

impl Fresh {
    /// Nothing is here yet, and whatever comes after `last` will be.
    pub(super) fn after(last: Position) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, complete_after: last }
    }

    /// Adds what has just been committed, in the order of the stream.
    pub(super) fn add(&mut self, appended: Vec<(Position, PackedBatch)>) {
        for (position, packed) in appended {
            self.bytes += size(&packed);
            self.entries.push_back((position, packed));
        }
        while self.bytes > BYTES_MAX {
            self.drop_first();
        }
    }

    /// The next entries after this one, at most so many; `None` when only the file knows them all.
    pub(super) fn take_after(
        &mut self,
        after: Position,
        entries_max: usize,
    ) -> Option<Vec<(Position, PackedBatch)>> {
        if after < self.complete_after {
            return None;
        }
        // Whoever read the file has overtaken us.
        while self.entries.front().is_some_and(|(position, _)| *position <= after) {
            self.drop_first();
        }
        let mut taken = Vec::with_capacity(entries_max.min(self.entries.len()));
        while taken.len() < entries_max {
            let Some((position, packed)) = self.drop_first() else { break };
            taken.push((position, packed));
        }
        Some(taken)
    }

    fn drop_first(&mut self) -> Option<(Position, PackedBatch)> {
        let (position, packed) = self.entries.pop_front()?;
        self.bytes -= size(&packed);
        self.complete_after = position;
        Some((position, packed))
    }
}

fn size(packed: &PackedBatch) -> usize {
    packed.data.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use millrace_event::plan::ProjectId;

    fn entry(ms: u64, bytes: usize) -> (Position, PackedBatch) {
        let data = Bytes::from(vec![0; bytes]);
        let packed =
            PackedBatch { batch_id: Uuid::nil(), project: ProjectId(1), count: 1, rows_bytes: 1, data };
        (Position::at_ms(ms), packed)
    }

    fn taken(fresh: &mut Fresh, after: u64, entries_max: usize) -> Option<Vec<u64>> {
        let taken = fresh.take_after(Position::at_ms(after), entries_max)?;
        Some(taken.into_iter().map(|(position, _)| position.ms()).collect())
    }

    #[test]
    fn every_entry_is_handed_out_once_and_in_order() {
        let mut fresh = Fresh::after(Position::at_ms(10));
        fresh.add(vec![entry(11, 1), entry(12, 1), entry(13, 1)]);
        assert_eq!(taken(&mut fresh, 9, 5), None, "there may be more between 9 and 10");
        assert_eq!(taken(&mut fresh, 10, 2), Some(vec![11, 12]));
        assert_eq!(taken(&mut fresh, 12, 2), Some(vec![13]));
        assert_eq!(taken(&mut fresh, 13, 2), Some(vec![]));
        assert_eq!(taken(&mut fresh, 11, 2), None, "what was handed out is gone");
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_file() {
        let mut fresh = Fresh::after(Position::at_ms(10));
        fresh.add((11..=20).map(|ms| entry(ms, BYTES_MAX / 4)).collect());
        assert_eq!(taken(&mut fresh, 10, 9), None);
        let kept = taken(&mut fresh, 17, 9).expect("the newest are here");
        assert_eq!(kept, [18, 19, 20]);
        assert_eq!(fresh.bytes, 0);
    }

    #[test]
    fn who_has_read_the_file_further_goes_on_here() {
        let mut fresh = Fresh::after(Position::at_ms(10));
        fresh.add(vec![entry(11, 1), entry(12, 1), entry(13, 1)]);
        assert_eq!(taken(&mut fresh, 12, 9), Some(vec![13]));
    }
}
