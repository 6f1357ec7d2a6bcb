//! What this process has stored lately: a hint where duplicates are likely, so that only suspects are looked up before
//! a COPY. Nothing depends on it being right: the primary key decides. A duplicate it misses costs one rolled-back
//! transaction; a suspect that is none costs one look into an index.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// Sets of keys; which one a key belongs to is chosen by its hash.
const SETS: usize = 1 << 21;
/// A key is remembered by so many bits of its hash: of 10,000 keys that are none, one or two are looked up in vain.
const FINGERPRINT_BITS: u32 = 16;

/// The last eight keys noted in each set, the newest in the lowest bits of the first word: 32 MiB in all. The last 4 million
/// keys are remembered but for one in a thousand, because hardly ever do eight younger ones fall into one set. Each
/// duplicate that is missed costs a transaction, and at 0.6 % duplicates a transaction of 10,000 rows holds 60 of them.
struct Set {
    words: [AtomicU64; 2],
}

/// The memory, shared by all writers of a process.
pub(super) struct Recent {
    sets: Box<[Set]>,
}

impl Recent {
    pub(super) fn new() -> Self {
        let empty = || Set { words: [AtomicU64::new(0), AtomicU64::new(0)] };
        Self { sets: (0..SETS).map(|_| empty()).collect() }
    }

    /// Whether this key was probably noted before.
    pub(super) fn suspects(&self, key: u64) -> bool {
        let wanted = fingerprint(key);
        let holds = |word: &AtomicU64| {
            let word = word.load(Ordering::Relaxed);
            (0..u64::BITS)
                .step_by(FINGERPRINT_BITS as usize)
                .any(|at| (word >> at) & FINGERPRINT_MASK == wanted)
        };
        self.set(key).words.iter().any(holds)
    }

    /// Notes a key that was stored. Of two lanes that note into one set at the same moment, one may be forgotten.
    pub(super) fn note(&self, key: u64) {
        let [newer, older] = &self.set(key).words;
        let (first, second) = (newer.load(Ordering::Relaxed), older.load(Ordering::Relaxed));
        let pushed_out = first >> (u64::BITS - FINGERPRINT_BITS);
        older.store((second << FINGERPRINT_BITS) | pushed_out, Ordering::Relaxed);
        newer.store((first << FINGERPRINT_BITS) | fingerprint(key), Ordering::Relaxed);
    }

    fn set(&self, key: u64) -> &Set {
        &self.sets[key as usize & (SETS - 1)]
    }
}

const FINGERPRINT_MASK: u64 = (1 << FINGERPRINT_BITS) - 1;

/// Bits of the hash that do not choose the set; 0 is an empty place.
fn fingerprint(key: u64) -> u64 {
    (key >> (u64::BITS - FINGERPRINT_BITS)).max(1)
}

/// A 64-bit hash of what an event is recognised by: its time, too, when it has one.
pub(super) fn hash(project: i64, timestamp_us: Option<i64>, event_id: Uuid) -> u64 {
    let (high, low) = event_id.as_u64_pair();
    let time = timestamp_us.unwrap_or(i64::MIN).cast_unsigned();
    [low, time, project.cast_unsigned()].into_iter().fold(mix(high), |hash, part| mix(hash ^ part))
}

/// The finaliser of MurmurHash3 (Austin Appleby, public domain): every bit in changes half of the bits out.
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
    fn a_noted_key_is_suspected_and_its_neighbours_are_not() {
        let recent = Recent::new();
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let key = hash(7, Some(1_000), id);
        assert!(!recent.suspects(key));
        recent.note(key);
        assert!(recent.suspects(key));
        assert!(!recent.suspects(hash(8, Some(1_000), id)));
        assert!(!recent.suspects(hash(7, Some(1_001), id)));
        assert!(!recent.suspects(hash(7, None, id)));
    }

    #[test]
    fn the_last_four_million_keys_are_remembered_but_for_a_few() {
        let recent = Recent::new();
        let key = |number: u64| hash(7, Some(number.cast_signed()), Uuid::from_u128(u128::from(number)));
        let noted = 4_000_000;
        (0..noted).for_each(|number| recent.note(key(number)));
        let oldest = (0..100_000).filter(|&number| recent.suspects(key(number))).count();
        assert!(oldest > 99_700, "{oldest} of the oldest 100,000 are remembered");
        let strangers = (noted..noted + 100_000).filter(|&number| recent.suspects(key(number))).count();
        assert!(strangers < 30, "{strangers} of 100,000 that never were are suspected");
    }
}
