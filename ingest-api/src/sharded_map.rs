//! A map whose copies share what did not change: to change one entry of a copy costs one part of the map, not
//! all of it. It must never be used for keys that a client can choose so that they meet in one part.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use millrace_event::plan::ProjectId;

/// Parts of a map. With 100,000 entries, a part has about a hundred, and a copy of the map takes a thousand
/// pointers.
const PARTS: usize = 1_024;

/// A key that knows its part.
pub trait Part: Eq + Hash + Clone {
    /// Any number; the lowest bits choose the part, so they should differ between keys.
    fn part(&self) -> u64;
}

/// A hash of SHA-256.
impl Part for [u8; 32] {
    fn part(&self) -> u64 {
        u64::from(self[0]) << 8 | u64::from(self[1])
    }
}

impl Part for ProjectId {
    fn part(&self) -> u64 {
        self.0.cast_unsigned()
    }
}

#[derive(Debug)]
pub struct ShardedMap<K, V> {
    parts: Box<[Arc<HashMap<K, V>>]>,
}

impl<K, V> Clone for ShardedMap<K, V> {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone() }
    }
}

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        Self { parts: vec![Arc::default(); PARTS].into() }
    }
}

impl<K: Part, V: Clone> ShardedMap<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        self.parts[index(key)].get(key)
    }

    /// Copies the part of the key first when another map shares it.
    pub fn insert(&mut self, key: K, value: V) {
        Arc::make_mut(&mut self.parts[index(&key)]).insert(key, value);
    }

    /// As [`ShardedMap::insert`].
    pub fn remove(&mut self, key: &K) {
        if self.get(key).is_some() {
            Arc::make_mut(&mut self.parts[index(key)]).remove(key);
        }
    }

    /// In no particular order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().flat_map(|part| part.values())
    }

    /// Counts the entries, part by part.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }
}

fn index(key: &impl Part) -> usize {
    (key.part() % PARTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_copy_leaves_the_original_and_copies_one_part() {
        let mut original = ShardedMap::default();
        for number in 0..10_000 {
            original.insert(ProjectId(number), number);
        }
        let mut copy = original.clone();
        copy.insert(ProjectId(5), -5);
        copy.remove(&ProjectId(5 + PARTS as i64));
        copy.remove(&ProjectId(10_000));
        assert_eq!((original.get(&ProjectId(5)), copy.get(&ProjectId(5))), (Some(&5), Some(&-5)));
        assert_eq!((original.len(), copy.len()), (10_000, 9_999));
        assert_eq!(copy.values().sum::<i64>(), original.values().sum::<i64>() - 10 - (5 + PARTS as i64));
        let parts = original.parts.iter().zip(&copy.parts);
        assert_eq!(parts.filter(|(one, other)| !Arc::ptr_eq(one, other)).count(), 1);
    }

    #[test]
    fn negative_numbers_and_all_hashes_have_a_part() {
        let mut map = ShardedMap::default();
        map.insert(ProjectId(-1), "a");
        map.insert(ProjectId(i64::MIN), "b");
        assert_eq!((map.get(&ProjectId(-1)), map.get(&ProjectId(i64::MIN))), (Some(&"a"), Some(&"b")));
        let mut map = ShardedMap::default();
        map.insert([0xff; 32], "c");
        assert_eq!(map.get(&[0xff; 32]), Some(&"c"));
    }
}
