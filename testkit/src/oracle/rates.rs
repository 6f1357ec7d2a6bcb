//! The rate limit, recomputed from the receive times in the ledger: I6.
//!
//! GCRA (ITU-T I.371, virtual scheduling): a request at `t` moves the theoretical arrival time to `max(tat,
//! t) + interval` and passes when that is at most `t + burst * interval`. The ledger has milliseconds, so a
//! request passes if it may pass at any time within its millisecond.

const MINUTE_US: u64 = 60_000_000;

/// The number of requests that should not have passed, and the latest theoretical arrival time that these
/// requests can cause, in microseconds. `received_ms` must be sorted.
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
    fn a_burst_and_then_the_rate_pass_but_one_more_request_does_not() {
        // 600 per minute, which is one every 100 ms, and a burst of 3.
        assert_eq!(replay(&[1_000, 1_000, 1_000, 1_100, 1_200], 600, 3).0, 0);
        assert_eq!(replay(&[1_000, 1_000, 1_000, 1_000], 600, 3).0, 1);
        assert_eq!(replay(&[1_000, 1_000, 1_000, 1_050], 600, 3).0, 1);
    }
}
