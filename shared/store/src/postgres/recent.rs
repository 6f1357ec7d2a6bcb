//! The keys of the events that this process has stored recently, or is about to commit. Before a COPY, only
//! rows whose keys may be among them are looked up. Correctness does not depend on it: the primary key
//! decides. A duplicate it misses costs a rolled-back transaction, and lookups of every row in the next ones;
//! a false positive costs one index lookup.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// The hash of a key chooses its set.
const SETS: usize = 1 << 21;
/// A key is remembered by this many bits of its hash: of 10,000 new keys, one or two are false positives.
const FINGERPRINT_BITS: u32 = 16;

/// The last eight keys of a set, the newest in the lowest bits of the first word; 32 MiB in all. Of the last
/// 4 million keys, all but one in a thousand are remembered, because eight newer keys seldom fall into one
/// set. Each missed duplicate costs a transaction, and at 0.6 % duplicates a transaction of 10,000 rows has
/// 60 of them.
struct KeySet {
    words: [AtomicU64; 2],
}

/// A fixed-size set that forgets its oldest keys, shared by all writers of a process.
pub(super) struct RecentKeys {
    sets: Box<[KeySet]>,
}

impl RecentKeys {
    pub(super) fn new() -> Self {
        let empty = || KeySet { words: [AtomicU64::new(0), AtomicU64::new(0)] };
        Self { sets: (0..SETS).map(|_| empty()).collect() }
    }

    /// False positives and false negatives are possible.
    pub(super) fn may_contain(&self, key: u64) -> bool {
        let wanted = fingerprint(key);
        let holds = |word: &AtomicU64| {
            let word = word.load(Ordering::Relaxed);
            (0..u64::BITS)
                .step_by(FINGERPRINT_BITS as usize)
                .any(|at| (word >> at) & FINGERPRINT_MASK == wanted)
        };
        self.set(key).words.iter().any(holds)
    }

    /// When two lanes insert into one set at the same moment, one of the keys may be lost.
    pub(super) fn insert(&self, key: u64) {
        let [newer, older] = &self.set(key).words;
        let (first, second) = (newer.load(Ordering::Relaxed), older.load(Ordering::Relaxed));
        let pushed_out = first >> (u64::BITS - FINGERPRINT_BITS);
        older.store((second << FINGERPRINT_BITS) | pushed_out, Ordering::Relaxed);
        newer.store((first << FINGERPRINT_BITS) | fingerprint(key), Ordering::Relaxed);
    }

    fn set(&self, key: u64) -> &KeySet {
        &self.sets[key as usize & (SETS - 1)]
    }
}

const FINGERPRINT_MASK: u64 = (1 << FINGERPRINT_BITS) - 1;

/// Bits of the hash that do not choose the set. 0 means empty.
fn fingerprint(key: u64) -> u64 {
    (key >> (u64::BITS - FINGERPRINT_BITS)).max(1)
}

/// A 64-bit hash of the identity of an event. The time is `None` for an event that came without one.
pub(super) fn hash(project: i64, timestamp_us: Option<i64>, event_id: Uuid) -> u64 {
    let (high, low) = event_id.as_u64_pair();
    let time = timestamp_us.unwrap_or(i64::MIN).cast_unsigned();
    [low, time, project.cast_unsigned()].into_iter().fold(mix(high), |hash, part| mix(hash ^ part))
}

/// The finalizer of MurmurHash3 (Austin Appleby, public domain): every input bit changes half of the output
/// bits.
fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inserted_key_is_found_and_similar_keys_are_not() {
        let recent = RecentKeys::new();
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let key = hash(7, Some(1_000), id);
        assert!(!recent.may_contain(key));
        recent.insert(key);
        assert!(recent.may_contain(key));
        assert!(!recent.may_contain(hash(8, Some(1_000), id)));
        assert!(!recent.may_contain(hash(7, Some(1_001), id)));
        assert!(!recent.may_contain(hash(7, None, id)));
    }

    #[test]
    fn nearly_all_of_the_last_four_million_keys_are_remembered() {
        let recent = RecentKeys::new();
        let key = |number: u64| hash(7, Some(number.cast_signed()), Uuid::from_u128(u128::from(number)));
        let noted = 4_000_000;
        (0..noted).for_each(|number| recent.insert(key(number)));
        let oldest = (0..100_000).filter(|&number| recent.may_contain(key(number))).count();
        assert!(oldest > 99_700, "{oldest} of the oldest 100,000 keys are remembered");
        let strangers = (noted..noted + 100_000).filter(|&number| recent.may_contain(key(number))).count();
        assert!(strangers < 30, "{strangers} of 100,000 keys that were never inserted are found");
    }
}
