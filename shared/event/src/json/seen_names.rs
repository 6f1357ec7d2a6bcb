//! Notices that an object may have two members of the same name, in a few nanoseconds for each name.
//!
//! It must never overlook a repetition. It may suspect one where there is none: the caller then compares
//! the names themselves.

/// Objects nested deeper than this are always suspected.
const LEVELS: usize = 8;
/// Words of the set of one object.
const WORDS: usize = 8;
/// Bits of a hash that choose a bit of the set: 2^9 = 64 * [`WORDS`].
const HASH_BITS: u32 = 9;
/// An odd number without a pattern: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hashes of the names of all objects that are open.
#[derive(Default)]
pub(super) struct SeenNames {
    sets: [[u64; WORDS]; LEVELS],
    /// Whether an object may repeat a name.
    pub may_repeat: bool,
}

impl SeenNames {
    /// Begins a container at this depth, counted from 1.
    pub(super) fn open(&mut self, depth: usize) {
        if let Some(set) = self.sets.get_mut(depth - 1) {
            *set = [0; WORDS];
        }
    }

    /// Adds a name of the object at this depth: the bytes after its opening quote and before its colon.
    pub(super) fn add(&mut self, depth: usize, to_colon: &[u8]) {
        let name = to_colon.trim_ascii_end();
        let hash = hash(name);
        let Some(set) = self.sets.get_mut(depth - 1) else {
            self.may_repeat = true;
            return;
        };
        let (word, bit) = (hash / 64, 1 << (hash % 64));
        // A name with an escape may be equal to one that is written otherwise.
        self.may_repeat |= set[word] & bit != 0 || name.contains(&b'\\');
        set[word] |= bit;
    }
}

/// A hash of the first eight bytes, the last eight, and the length.
fn hash(name: &[u8]) -> usize {
    let (first, last) = match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
    };
    let mixed = (first ^ last.rotate_left(29) ^ name.len() as u64).wrapping_mul(MULTIPLIER);
    usize::try_from(mixed >> (u64::BITS - HASH_BITS)).expect("nine bits fit")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn different_names_of_an_event_are_not_suspected() {
        let mut names = SeenNames::default();
        names.open(1);
        for name in ["id", "name", "timestamp", "subject", "properties", "context", "url", "path"] {
            names.add(1, format!("{name}\"").as_bytes());
        }
        assert!(!names.may_repeat);
    }

    proptest! {
        #[test]
        fn a_repeated_name_is_always_noticed(names in proptest::collection::vec("[a-c\\PC]{0,12}", 1..12), twice in 0..12_usize, depth in 1..20_usize) {
            let mut seen = SeenNames::default();
            seen.open(depth);
            for name in &names {
                seen.add(depth, format!("{name}\"").as_bytes());
            }
            seen.add(depth, format!("{}\"  ", names[twice % names.len()]).as_bytes());
            prop_assert!(seen.may_repeat);
        }
    }
}
