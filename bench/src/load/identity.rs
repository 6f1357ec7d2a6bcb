//! Event identities: unique ids with times. Identities of recently accepted events are kept, to be sent as
//! duplicates.

use std::collections::VecDeque;

use rand::RngExt;

/// Length of a UUID as text.
pub const ID_BYTES: usize = 36;
/// Events kept per connection.
const RECENT_MAX: usize = 50_000;
/// Minimum age of an event when it is sent again: a client waits for the answer, and then a moment longer.
const DUPLICATE_AFTER_US: i64 = 1_000_000;

/// The fields by which a server recognizes a duplicate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// A version 4 UUID.
    pub id: u128,
    /// Microseconds since 1970.
    pub time_us: i64,
}

/// Generates version 4 UUIDs.
#[derive(Clone, Debug)]
pub struct IdGenerator {
    seed: u64,
    next: u64,
}

impl IdGenerator {
    /// Starts from a random seed.
    pub fn new() -> Self {
        Self { seed: rand::rng().random(), next: 0 }
    }

    /// Returns the next id. All its bits look random: a sequence would compress better than the ids of real
    /// clients.
    pub fn next_id(&mut self) -> u128 {
        self.next += 1;
        let (high, low) = (mix(self.seed ^ mix(self.next)), mix(self.next.wrapping_add(self.seed)));
        let random = (u128::from(high) << 64) | u128::from(low);
        // Version 4 and the variant of RFC 9562.
        (random & !(0xF << 76) & !(0b11 << 62)) | (4 << 76) | (0b10 << 62)
    }
}

/// The last step of SplitMix64 (public domain, Sebastiano Vigna), a bijection: different inputs give
/// different outputs.
fn mix(number: u64) -> u64 {
    let once = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    twice ^ (twice >> 31)
}

/// Writes an id as text into [`ID_BYTES`] bytes.
pub fn write_id(id: u128, out: &mut [u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut at = 0;
    for (index, byte) in id.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out[at] = b'-';
            at += 1;
        }
        out[at] = HEX[usize::from(byte >> 4)];
        out[at + 1] = HEX[usize::from(byte & 0xF)];
        at += 2;
    }
}

/// The events that were most recently accepted on one connection, oldest first.
#[derive(Default, Debug)]
pub struct RecentEvents(VecDeque<Identity>);

impl RecentEvents {
    /// Adds events, which must be newer than all others. The oldest are dropped when there are too many.
    pub fn add(&mut self, accepted: impl Iterator<Item = Identity>) {
        self.0.extend(accepted);
        let excess = self.0.len().saturating_sub(RECENT_MAX);
        self.0.drain(..excess);
    }

    /// Uses `random` to pick an event that is old enough to be sent again; `None` when there is none yet.
    pub fn pick(&self, now_us: i64, random: u32) -> Option<Identity> {
        let old_enough = self.0.partition_point(|event| event.time_us <= now_us - DUPLICATE_AFTER_US);
        (old_enough > 0).then(|| self.0[random as usize % old_enough])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_version_4_uuids_and_unique() {
        let mut generators = [IdGenerator::new(), IdGenerator::new()];
        let mut ids = HashSet::new();
        for _ in 0..20_000 {
            for generator in &mut generators {
                let id = generator.next_id();
                assert!(ids.insert(id));
                let mut text = [0; ID_BYTES];
                write_id(id, &mut text);
                let parsed = uuid::Uuid::try_parse_ascii(&text).unwrap();
                assert_eq!((parsed.as_u128(), parsed.get_version_num()), (id, 4));
            }
        }
    }

    #[test]
    fn only_events_accepted_a_while_ago_are_picked_as_duplicates() {
        let event = |number: i64| Identity { id: number as u128, time_us: number };
        let (mut recent, now) = (RecentEvents::default(), DUPLICATE_AFTER_US);
        recent.add([event(1)].into_iter());
        assert_eq!(recent.pick(now, 7), None);
        assert_eq!(recent.pick(now + 1, 7), Some(event(1)));
        let newest = RECENT_MAX as i64 + 5;
        recent.add((2..=newest).map(event));
        assert_eq!(recent.pick(now + newest, 0), Some(event(6)), "the oldest are dropped");
        assert_eq!(recent.pick(now + newest, RECENT_MAX as u32 - 1), Some(event(newest)));
    }
}
