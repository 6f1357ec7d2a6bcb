//! Entries that bring processes down. Data that the database refuses is the store's affair; this room is for an entry
//! whose mere handling ends the process or the lane, again and again.
//!
//! Deliveries alone prove nothing: a restart or a long outage counts them up for innocent entries as well. So an entry
//! delivered often is first written alone, and each attempt is noted before and forgotten after it; only attempts
//! that never came back convict.

use millrace_stream::Delivery;

/// From this delivery on, an entry is written in a transaction of its own.
pub const ALONE_FROM_DELIVERY: u32 = 3;
/// So many attempts may never return before the entry goes to the dead letters unread.
pub const LOST_ATTEMPTS_MAX: u32 = 5;

/// Whether this entry has to be written alone.
pub fn must_be_alone(delivery: &Delivery) -> bool {
    delivery.delivered >= ALONE_FROM_DELIVERY
}

/// What is said of an entry convicted by `attempts`, this one included, of which none came back; `None` while in doubt.
pub fn verdict(attempts: u32) -> Option<String> {
    let lost = attempts.saturating_sub(1);
    (lost >= LOST_ATTEMPTS_MAX).then(|| format!("handling this entry ended the worker {lost} times"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_attempts_that_never_came_back_convict() {
        assert_eq!(verdict(1), None);
        assert_eq!(verdict(LOST_ATTEMPTS_MAX), None);
        assert!(verdict(LOST_ATTEMPTS_MAX + 1).is_some());
    }
}
