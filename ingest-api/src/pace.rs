//! Decides when a body arrives too slowly. Pure: every time is an argument, counted from the beginning of the
//! body.
//!
//! A body has credit, which is time. Credit runs out as time passes, and every byte adds some, up to the idle
//! timeout. So the deadline counts from the last byte, and a client that sends a byte every few seconds to
//! occupy a connection runs out of credit all the same. After the total time, only a body that arrives at the
//! speed of a slow link continues: holding a connection longer takes real bandwidth. No byte gives more
//! credit than the idle timeout, so a client cannot send most of a body at once and then hold its memory.

use std::time::Duration;

/// The lowest rate of any body, in bytes per second. The shortest event with its line break has 13 bytes, so
/// a stream of events with one line every six seconds passes, and one byte per second does not.
const FLOOR_BYTES_PER_S: u32 = 2;
/// The lowest rate of a body that takes longer than the total time, in bytes per second. A link of 64 kbit/s,
/// to which mobile networks throttle, carries 7,700 bytes of bodies per second when nothing is lost. The
/// largest body of an SDK takes 23 minutes at this rate.
const LINK_BYTES_PER_S: u32 = 6_000;

/// The times of a server for one body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PaceLimits {
    /// Without a byte for this long, a body is late.
    pub idle: Duration,
    /// How long a body may take, unless it arrives at the speed of a slow link.
    pub total: Duration,
}

/// The progress of one body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    limits: PaceLimits,
    floor: Credit,
    link: Credit,
}

/// The time at which a body of this lowest rate is late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Credit {
    bytes_per_s: u32,
    until: Duration,
}

impl Credit {
    fn add(&mut self, bytes: usize, at: Duration, most: Duration) {
        // A body has less than 4 GiB. Should one have more, the rest adds no credit.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let worth = Duration::from_secs(bytes.into()) / self.bytes_per_s;
        self.until = (self.until + worth).min(at + most);
    }
}

impl Pace {
    /// A body of which nothing has arrived.
    pub fn new(limits: PaceLimits) -> Self {
        let credit = |bytes_per_s| Credit { bytes_per_s, until: limits.idle };
        Self { limits, floor: credit(FLOOR_BYTES_PER_S), link: credit(LINK_BYTES_PER_S) }
    }

    /// Bytes have arrived at this time, which is not before the previous one.
    pub fn arrived(&mut self, bytes: usize, at: Duration) {
        self.floor.add(bytes, at, self.limits.idle);
        self.link.add(bytes, at, self.limits.idle);
    }

    /// The time at which the body is late, unless more bytes arrive before.
    pub fn deadline(&self) -> Duration {
        self.floor.until.min(self.link.until.max(self.limits.total))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: PaceLimits = PaceLimits { idle: Duration::from_secs(10), total: Duration::from_secs(120) };

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// When a body with these pieces (pause before it, bytes) ends or is late.
    fn fate(pieces: impl IntoIterator<Item = (Duration, usize)>) -> Result<Duration, Duration> {
        let (mut pace, mut now) = (Pace::new(LIMITS), Duration::ZERO);
        for (pause, bytes) in pieces {
            now += pause;
            if pace.deadline() < now {
                return Err(pace.deadline());
            }
            pace.arrived(bytes, now);
        }
        Ok(now)
    }

    fn steady(pause: Duration, bytes: usize, times: usize) -> Result<Duration, Duration> {
        fate(std::iter::repeat_n((pause, bytes), times))
    }

    #[test]
    fn a_body_of_any_size_over_a_slow_mobile_link_is_received() {
        for kbit_per_s in [64, 72] {
            // 40 of 1,500 bytes of a packet are headers.
            let (packet, pause) = (1_460, ms(1_500 * 8 / kbit_per_s));
            for (bytes, is_long) in [(124_000, false), (2_000_000, true), (8 << 20, true)] {
                let taken = steady(pause, packet, bytes / packet).expect("it is fast enough");
                assert_eq!(taken > LIMITS.total, is_long, "{bytes} bytes in {taken:?}");
            }
        }
    }

    #[test]
    fn a_stream_with_a_short_line_every_second_is_received() {
        let line = "{\"name\":\"a\"}\n".len();
        for (pause_s, lines) in [(1, 12), (1, 119), (5, 20), (6, 19)] {
            assert!(steady(ms(pause_s * 1_000), line, lines).is_ok(), "a line every {pause_s} s");
        }
    }

    #[test]
    fn a_client_that_drips_bytes_is_late_long_before_the_total_time() {
        assert_eq!(fate([(ms(10_001), 1)]), Err(ms(10_000)), "nothing arrives");
        assert_eq!(steady(ms(2_000), 1, 100), Err(ms(13_000)));
        assert_eq!(steady(ms(1_000), 1, 100), Err(ms(19_500)));
        assert_eq!(steady(ms(9_900), 1, 100), Err(ms(10_500)));
    }

    #[test]
    fn the_deadline_counts_from_the_last_byte() {
        assert_eq!(fate([(ms(4_000), 100), (ms(9_999), 100), (ms(10_001), 1)]), Err(ms(23_999)));
        assert!(fate([(ms(4_000), 100), (ms(10_000), 100), (ms(10_000), 1)]).is_ok());
    }

    #[test]
    fn bytes_sent_at_once_are_no_credit_for_later() {
        let burst = [(ms(0), 8 << 20)];
        assert_eq!(fate(burst.into_iter().chain([(ms(10_001), 1)])), Err(ms(10_000)));
        let dripping = burst.into_iter().chain(std::iter::repeat_n((ms(1_000), 2), 1_000));
        assert_eq!(fate(dripping), Err(LIMITS.total));
    }

    #[test]
    fn after_the_total_time_a_body_must_arrive_at_the_speed_of_a_slow_link() {
        assert_eq!(steady(ms(1_000), 4_000, 1_000), Err(LIMITS.total), "4,000 bytes per second");
        assert_eq!(steady(ms(1_000), 6_000, 1_000), Ok(ms(1_000_000)));
        // Fast enough for 150 s, then slow.
        let slower = std::iter::repeat_n((ms(1_000), 9_000), 150).chain([(ms(9_000), 2_000), (ms(2_000), 1)]);
        assert_eq!(fate(slower), Err(Duration::from_secs(160) + Duration::from_secs(2_000) / 6_000));
    }

    proptest! {
        #[test]
        fn a_body_is_never_received_for_longer_than_its_bytes_pay_for(
            pieces in prop::collection::vec((0_u64..12_000, 0_usize..40_000), 0..300),
        ) {
            let bytes: usize = pieces.iter().map(|(_, bytes)| bytes).sum();
            let ended = fate(pieces.iter().map(|(pause, bytes)| (ms(*pause), *bytes)));
            let paid = Duration::from_secs(bytes as u64) / LINK_BYTES_PER_S;
            let ended = ended.unwrap_or_else(|late| late);
            // Each division rounds by less than a nanosecond.
            prop_assert!(ended <= LIMITS.total.max(LIMITS.idle + paid + ms(1)), "{bytes} bytes took {ended:?}");
        }

        #[test]
        fn a_deadline_is_at_most_the_idle_timeout_after_the_last_byte_and_never_moves_back(
            pieces in prop::collection::vec((0_u64..12_000, 1_usize..40_000), 1..300),
        ) {
            let (mut pace, mut now) = (Pace::new(LIMITS), Duration::ZERO);
            for (pause, bytes) in pieces {
                let before = pace.deadline();
                now += ms(pause);
                if before < now {
                    break;
                }
                pace.arrived(bytes, now);
                prop_assert!(before <= pace.deadline() && pace.deadline() <= now + LIMITS.idle);
            }
        }

        #[test]
        fn pieces_of_20_bytes_at_least_every_10_seconds_are_received_for_the_whole_total_time(
            pauses in prop::collection::vec(0_u64..=10_000, 0..100),
            bytes in 20_usize..4_000,
        ) {
            let mut total = 0;
            let pauses = pauses.into_iter().take_while(|pause| { total += pause; total <= 120_000 });
            prop_assert!(fate(pauses.map(|pause| (ms(pause), bytes))).is_ok());
        }
    }
}
