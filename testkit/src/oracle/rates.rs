//! The rate limit, computed anew from the receive times in the ledger: I6.
//!
//! GCRA (ITU-T I.371, virtual scheduling): a request at `t` moves the theoretical arrival time to `max(tat, t) + interval`
//! and passes when that is at most `t + burst * interval`. The ledger knows milliseconds, so each request is given the
//! benefit of its whole millisecond.

const MINUTE_US: u64 = 60_000_000;

/// How many of these requests should not have passed, and the latest theoretical arrival time that the others explain.
/// `received_ms` in order.
pub(super) fn replay(received_ms: &[u64], per_minute: u64, burst: u64) -> (usize, u64) {
    let interval = MINUTE_US.div_ceil(per_minute);
    let (mut earliest, mut latest, mut excess) = (0_u64, 0_u64, 0);
    for ms in received_ms {
        let (from, to) = (ms * 1_000, ms * 1_000 + 999);
        let next = earliest.max(from) + interval;
        if next > to + burst * interval {
            excess += 1;
        }
        earliest = next;
        latest = latest.max(to) + interval;
    }
    (excess, latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate_pass_and_one_more_does_not() {
        // 600 a minute: one each 100 ms; 3 at once.
        assert_eq!(replay(&[1_000, 1_000, 1_000, 1_100, 1_200], 600, 3).0, 0);
        assert_eq!(replay(&[1_000, 1_000, 1_000, 1_000], 600, 3).0, 1);
        assert_eq!(replay(&[1_000, 1_000, 1_000, 1_050], 600, 3).0, 1);
    }
}
