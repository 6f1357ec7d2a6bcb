//! Ids of batches that name the group they are in, so that the ledger keeps the batches of a group in one
//! row.
//!
//! An API process gives its batches consecutive places in a group. Batches that are admitted in one entry
//! then have one group, or a few. The id of such a batch is a UUIDv6 (RFC 9562, section 5.6): the time at
//! which the group began, random bits, and the place in the last byte. The id of the group is that of place
//! 0, which no batch has. Version 6 is not used otherwise, so an id says whether it names a group.

use uuid::Uuid;

use crate::event::BatchId;

/// The version of the ids of batches in a group.
const VERSION: u64 = 6;
/// From 1582, where the time of a UUIDv6 begins, to 1970, in its unit of 100 nanoseconds.
const TICKS_BEFORE_1970: u64 = 0x01b2_1dd2_1381_4000;
/// The bit that marks a node that is random, and no address of a network card.
const RANDOM_NODE: u64 = 1 << 40;
const VARIANT: u64 = 0b10 << 62;

/// A batch's place in a group of batches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BatchGroup {
    /// The id of the group.
    pub id: Uuid,
    /// The place of the batch, from 1.
    pub place: u8,
}

impl BatchGroup {
    /// The first place of a new group. `now_us` is in microseconds since 1970, and `random` has 64 random
    /// bits.
    pub fn first(now_us: u64, random: u64) -> Self {
        let ticks = now_us.wrapping_mul(10).wrapping_add(TICKS_BEFORE_1970);
        let high = (ticks << 4 & !0xffff) | VERSION << 12 | (ticks & 0xfff);
        let low = VARIANT | (random & !(0b11 << 62) & !0xff) | RANDOM_NODE;
        Self { id: Uuid::from_u64_pair(high, low), place: 1 }
    }

    /// The group of a batch. `None` for an id that names no group.
    pub fn of(batch_id: BatchId) -> Option<Self> {
        let mut bytes = batch_id.into_bytes();
        let place = std::mem::take(&mut bytes[15]);
        let names_a_group = batch_id.get_version_num() as u64 == VERSION && place > 0;
        names_a_group.then(|| Self { id: Uuid::from_bytes(bytes), place })
    }

    /// The next place of the group. `None` when the group is full.
    pub fn next(self) -> Option<Self> {
        Some(Self { place: self.place.checked_add(1)?, ..self })
    }

    /// The id of the batch with this place.
    pub fn batch_id(self) -> BatchId {
        let mut bytes = self.id.into_bytes();
        bytes[15] = self.place;
        Uuid::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::batch_id_of_key;
    use crate::plan::ProjectId;

    #[test]
    fn a_batch_id_names_its_group_and_its_place() {
        let first = BatchGroup::first(1_795_219_200_123_456, u64::MAX);
        let places: Vec<_> = std::iter::successors(Some(first), |group| group.next()).collect();
        assert_eq!(places.len(), 255);
        for (index, group) in places.iter().enumerate() {
            let id = group.batch_id();
            assert_eq!((usize::from(group.place), group.id), (index + 1, first.id));
            assert_eq!(BatchGroup::of(id), Some(*group));
            assert_eq!(
                (id.get_version(), id.get_variant()),
                (Some(uuid::Version::SortMac), uuid::Variant::RFC4122)
            );
        }
    }

    #[test]
    fn the_ids_of_later_groups_are_greater() {
        let ids = [0, 1, 999, 1_795_219_200_123_456, 4_000_000_000_000_000].map(|now_us| {
            let group = BatchGroup::first(now_us, u64::MAX - now_us);
            let (seconds, nanos) = group.batch_id().get_timestamp().expect("a time").to_unix();
            assert_eq!(seconds * 1_000_000 + u64::from(nanos) / 1_000, now_us);
            group.id
        });
        assert!(ids.is_sorted(), "{ids:?}");
    }

    #[test]
    fn other_ids_name_no_group() {
        let group = BatchGroup::first(1, 2);
        for id in
            [Uuid::now_v7(), Uuid::new_v4(), Uuid::nil(), batch_id_of_key(ProjectId(1), "key"), group.id]
        {
            assert_eq!(BatchGroup::of(id), None, "{id}");
        }
    }
}
