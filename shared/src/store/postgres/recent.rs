//! What this process has stored lately: a hint where duplicates are likely, so that only suspects are looked up before
//! a COPY. Nothing depends on it being right: the primary key decides. A duplicate it misses costs one rolled-back
//! transaction; a suspect that is none costs one look into an index.

use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

/// Keys remembered, at most: 4 million in 16 MiB. What is older is overwritten at random.
const SLOTS: usize = 1 << 22;

/// The memory, shared by all writers of a process.
pub(super) struct Recent {
    slots: Box<[AtomicU32]>,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Whether this key was probably noted before.
    pub(super) fn suspects(&self, key: u64) -> bool {
        self.slot(key).load(Ordering::Relaxed) == fingerprint(key)
    }

    /// Notes a key that was stored.
    pub(super) fn note(&self, key: u64) {
        self.slot(key).store(fingerprint(key), Ordering::Relaxed);
    }

    fn slot(&self, key: u64) -> &AtomicU32 {
        &self.slots[key as usize & (SLOTS - 1)]
    }
}

/// The half of the hash that does not choose the slot; 0 is the empty slot.
fn fingerprint(key: u64) -> u32 {
    ((key >> 32) as u32).max(1)
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
}
