//! When a delivery that failed is repeated. Pure: chance and time are arguments.

use std::time::Duration;

/// Attempts of a notification, at most: the last one is about a day after the first.
pub const ATTEMPTS_MAX: u32 = 12;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Status of an endpoint that wants no more messages, as Standard Webhooks recommends to read it.
const GONE: u16 = 410;

/// The pause until the next attempt, after `attempts` that failed, the last one with this status and
/// `Retry-After`. `None` when it is given up. `chance` is from 0 to 1: it spreads the attempts of many
/// notifications over time.
pub fn next_attempt(
    attempts: u32,
    status: Option<u16>,
    retry_after: Option<Duration>,
    chance: f64,
) -> Option<Duration> {
    if attempts >= ATTEMPTS_MAX || status == Some(GONE) {
        return None;
    }
    let doubled_twice = 4_u32.saturating_pow(attempts.saturating_sub(1));
    let pause = FIRST_PAUSE.saturating_mul(doubled_twice).min(PAUSE_MAX);
    let pause = pause.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
    // An endpoint may ask for more time, and not for an attempt each moment.
    Some(retry_after.map_or(pause, |asked| asked.clamp(pause, PAUSE_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Option<Duration> = None;

    #[test]
    fn pauses_grow_up_to_six_hours_and_end_with_the_last_attempt() {
        let pauses: Vec<_> = (1..ATTEMPTS_MAX)
            .map(|attempts| next_attempt(attempts, Some(500), None, 1.0).unwrap().as_secs())
            .collect();
        assert_eq!(pauses, [1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 21_600, 21_600, 21_600]);
        assert_eq!(next_attempt(ATTEMPTS_MAX, Some(500), None, 1.0), NEVER);
        assert_eq!(next_attempt(u32::MAX, None, None, 1.0), NEVER);
        assert_eq!(next_attempt(2, None, None, 0.0), Some(Duration::from_secs(2)), "half as long by chance");
    }

    #[test]
    fn retry_after_is_honored_between_the_own_pause_and_six_hours() {
        let asked =
            |seconds| next_attempt(2, Some(429), Some(Duration::from_secs(seconds)), 1.0).unwrap().as_secs();
        assert_eq!([0, 4, 60, 21_600, 1_000_000].map(asked), [4, 4, 60, 21_600, 21_600]);
    }

    #[test]
    fn an_endpoint_that_is_gone_gets_no_further_attempt() {
        assert_eq!(next_attempt(1, Some(410), Some(Duration::from_secs(1)), 1.0), NEVER);
    }
}
