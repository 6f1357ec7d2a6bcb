//! The newest entries, kept in memory until they are delivered. A lane that keeps up never reads the file. A
//! slower lane reads the entries that are no longer in memory from the file.
//!
//! An entry is added after it is on disk. This module must never keep more than its limit, or skip an entry.

use std::collections::VecDeque;

use super::position::Position;
use millrace_event::entry::{EntryBatch, PackedEntry};

/// Bytes kept, at most.
const BYTES_MAX: usize = 32 << 20;
/// Memory of an entry in addition to its packed bytes and its batches.
const ENTRY_BYTES: usize = 128;

pub(super) struct RecentEntries {
    /// Oldest first, without a gap.
    entries: VecDeque<(Position, PackedEntry)>,
    bytes: usize,
    /// Every later entry is in `entries`.
    complete_after: Position,
}

impl RecentEntries {
    /// Empty, for a file in which `last` is the last entry.
    pub(super) fn after(last: Position) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, complete_after: last }
    }

    /// Adds entries that were committed, in the order of the stream.
    pub(super) fn add(&mut self, appended: Vec<(Position, PackedEntry)>) {
        for (position, entry) in appended {
            self.bytes += size(&entry);
            self.entries.push_back((position, entry));
        }
        while self.bytes > BYTES_MAX {
            self.drop_first();
        }
    }

    /// Removes the next entries after this one, and returns them. `None` when some of them are only in the
    /// file.
    pub(super) fn take_after(
        &mut self,
        after: Position,
        entries_max: usize,
    ) -> Option<Vec<(Position, PackedEntry)>> {
        if after < self.complete_after {
            return None;
        }
        // Entries that a lane has read from the file.
        while self.entries.front().is_some_and(|(position, _)| *position <= after) {
            self.drop_first();
        }
        let mut taken = Vec::with_capacity(entries_max.min(self.entries.len()));
        while taken.len() < entries_max {
            let Some((position, entry)) = self.drop_first() else { break };
            taken.push((position, entry));
        }
        Some(taken)
    }

    fn drop_first(&mut self) -> Option<(Position, PackedEntry)> {
        let (position, entry) = self.entries.pop_front()?;
        self.bytes -= size(&entry);
        self.complete_after = position;
        Some((position, entry))
    }
}

fn size(entry: &PackedEntry) -> usize {
    entry.data.len() + entry.batches.len() * size_of::<EntryBatch>() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ms: u64, bytes: usize) -> (Position, PackedEntry) {
        (
            Position::at_ms(ms),
            PackedEntry { batches: Vec::new(), data: vec![0; bytes].into(), charges: Vec::new() },
        )
    }

    fn taken(recent: &mut RecentEntries, after: u64, entries_max: usize) -> Option<Vec<u64>> {
        let taken = recent.take_after(Position::at_ms(after), entries_max)?;
        Some(taken.into_iter().map(|(position, _)| position.ms()).collect())
    }

    #[test]
    fn every_entry_is_taken_once_and_in_order() {
        let mut recent = RecentEntries::after(Position::at_ms(10));
        recent.add(vec![entry(11, 1), entry(12, 1), entry(13, 1)]);
        assert_eq!(taken(&mut recent, 9, 5), None, "there may be an entry between 9 and 10");
        assert_eq!(taken(&mut recent, 10, 2), Some(vec![11, 12]));
        assert_eq!(taken(&mut recent, 12, 2), Some(vec![13]));
        assert_eq!(taken(&mut recent, 13, 2), Some(vec![]));
        assert_eq!(taken(&mut recent, 11, 2), None, "entry 12 was taken");
    }

    #[test]
    fn entries_that_do_not_fit_are_left_to_the_file() {
        let mut recent = RecentEntries::after(Position::at_ms(10));
        recent.add((11..=20).map(|ms| entry(ms, BYTES_MAX / 4)).collect());
        assert_eq!(taken(&mut recent, 10, 9), None);
        let kept = taken(&mut recent, 17, 9).expect("the newest are here");
        assert_eq!(kept, [18, 19, 20]);
        assert_eq!(recent.bytes, 0);
    }

    #[test]
    fn entries_that_were_read_from_the_file_are_skipped() {
        let mut recent = RecentEntries::after(Position::at_ms(10));
        recent.add(vec![entry(11, 1), entry(12, 1), entry(13, 1)]);
        assert_eq!(taken(&mut recent, 12, 9), Some(vec![13]));
    }
}
