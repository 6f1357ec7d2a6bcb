//! Who an event is: an id that no other has, and its time. What was accepted is remembered for a while, to be sent again.

use std::collections::VecDeque;

use rand::RngExt;

/// Bytes of an id: a UUID as text.
pub const ID_BYTES: usize = 36;
/// Events remembered by one connection.
const REMEMBERED: usize = 50_000;
/// How old an event is at least when it is sent again: clients wait for an answer, and then a moment longer.
const REPEATED_AFTER_US: i64 = 1_000_000;

/// What an event is recognised by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// Its id, a version 4 UUID.
    pub id: u128,
    /// Microseconds since 1970.
    pub time_us: i64,
}

/// Makes ids. Two of them never make the same one.
#[derive(Clone, Debug)]
pub struct Identities {
    stem: u64,
    next: u64,
}

impl Identities {
    /// With a random beginning.
    pub fn new() -> Self {
        Self { stem: rand::rng().random(), next: 0 }
    }

    /// A new id, whose bits all look random: a sequence would be compressed better than clients' ids are.
    pub fn next_id(&mut self) -> u128 {
        self.next += 1;
        let (high, low) = (mix(self.stem ^ mix(self.next)), mix(self.next.wrapping_add(self.stem)));
        let random = (u128::from(high) << 64) | u128::from(low);
        // Version 4, variant 1, as RFC 9562 has them.
        (random & !(0xF << 76) & !(0b11 << 62)) | (4 << 76) | (0b10 << 62)
    }
}

/// The last step of SplitMix64 (public domain, Sebastiano Vigna): no two numbers become the same.
fn mix(number: u64) -> u64 {
    let once = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    twice ^ (twice >> 31)
}

/// Writes an id as text into [`ID_BYTES`] bytes.
pub fn write_id(id: u128, out: &mut [u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut at = 0;
    for (place, byte) in id.to_be_bytes().into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            out[at] = b'-';
            at += 1;
        }
        out[at] = HEX[usize::from(byte >> 4)];
        out[at + 1] = HEX[usize::from(byte & 0xF)];
        at += 2;
    }
}

/// What one connection has had accepted of late.
#[derive(Default, Debug)]
pub struct Memory(VecDeque<Identity>);

impl Memory {
    /// Remembers these, which are newer than all others, and forgets the oldest.
    pub fn keep(&mut self, accepted: impl Iterator<Item = Identity>) {
        self.0.extend(accepted);
        let excess = self.0.len().saturating_sub(REMEMBERED);
        self.0.drain(..excess);
    }

    /// One of those that are old enough at this time, by a random number; `None` when there is none yet.
    pub fn pick(&self, now_us: i64, random: u32) -> Option<Identity> {
        let old_enough = self.0.partition_point(|event| event.time_us <= now_us - REPEATED_AFTER_US);
        (old_enough > 0).then(|| self.0[random as usize % old_enough])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_version_four_and_none_comes_twice() {
        let mut two = [Identities::new(), Identities::new()];
        let mut seen = HashSet::new();
        for _ in 0..20_000 {
            for ids in &mut two {
                let id = ids.next_id();
                assert!(seen.insert(id));
                let mut text = [0; ID_BYTES];
                write_id(id, &mut text);
                let read = uuid::Uuid::try_parse_ascii(&text).unwrap();
                assert_eq!((read.as_u128(), read.get_version_num()), (id, 4));
            }
        }
    }

    #[test]
    fn only_what_was_accepted_a_while_ago_is_sent_again() {
        let event = |number: i64| Identity { id: number as u128, time_us: number };
        let (mut memory, now) = (Memory::default(), REPEATED_AFTER_US);
        memory.keep([event(1)].into_iter());
        assert_eq!(memory.pick(now, 7), None);
        assert_eq!(memory.pick(now + 1, 7), Some(event(1)));
        let newest = REMEMBERED as i64 + 5;
        memory.keep((2..=newest).map(event));
        assert_eq!(memory.pick(now + newest, 0), Some(event(6)), "the oldest are forgotten");
        assert_eq!(memory.pick(now + newest, REMEMBERED as u32 - 1), Some(event(newest)));
    }
}
