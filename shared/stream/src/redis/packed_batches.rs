//! The argument of a script that lists the batches of a call.

use std::hash::Hash;

use super::keys::MarkerString;
use super::marker::MarkerPlace;
use super::numbered::Numbered;
use crate::BatchId;

/// The batches of a call, each with the number of its owner (2 bytes), the number of the string that has its
/// marker (2), its place there (1), and numbers (4 each) that the call is about. Owners and strings, each of
/// which the call names once, are numbered from 1.
pub(super) struct PackedBatches<T> {
    owners: Numbered<T>,
    markers: Numbered<MarkerString>,
    bytes: Vec<u8>,
}

impl<T: Copy + Eq + Hash> PackedBatches<T> {
    /// Without a batch yet.
    pub(super) fn new() -> Self {
        Self { owners: Numbered::default(), markers: Numbered::default(), bytes: Vec::new() }
    }

    /// Adds a batch. The caller adds fewer than 65,536, and as many `numbers` to each. Returns the place of
    /// the marker.
    pub(super) fn push(&mut self, batch_id: BatchId, owner: T, numbers: &[u32]) -> MarkerPlace {
        let marker = MarkerPlace::of(batch_id);
        for number in [self.owners.number(owner), self.markers.number(marker.string)] {
            self.bytes.extend_from_slice(&number.to_be_bytes()[2..]);
        }
        self.bytes.push(marker.place);
        for number in numbers {
            self.bytes.extend_from_slice(&number.to_be_bytes());
        }
        marker
    }

    /// The owners, in the order of their numbers.
    pub(super) fn owners(&self) -> &[T] {
        self.owners.items()
    }

    /// The strings, in the order of their numbers.
    pub(super) fn markers(&self) -> &[MarkerString] {
        self.markers.items()
    }

    /// The argument.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use millrace_event::BatchGroup;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn batches_name_their_owner_and_their_string_by_number() {
        let group = BatchGroup::first(1_795_219_200_000_000, 7);
        let next = group.next().unwrap();
        let mut packed = PackedBatches::new();
        assert_eq!(packed.push(group.batch_id(), "a", &[9, 258]).place, 1);
        assert_eq!(packed.push(Uuid::from_u128(3), "b", &[1, 2]).place, 0);
        assert_eq!(packed.push(next.batch_id(), "a", &[3, 4]).place, 2);
        let batches = [
            [0, 1, 0, 1, 1, 0, 0, 0, 9, 0, 0, 1, 2],
            [0, 2, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 2],
            [0, 1, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 4],
        ];
        assert_eq!(packed.bytes(), batches.as_flattened());
        assert_eq!(packed.owners(), ["a", "b"]);
        assert_eq!(packed.markers().len(), 2);
    }
}
