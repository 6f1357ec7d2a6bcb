//! The quarantine of entries that end the process or the lane whenever they are handled. It must never apply
//! to rows that the database rejects: the store dead-letters those.
//!
//! The number of deliveries proves nothing: a restart or a long outage raises it for harmless entries as
//! well. An entry delivered often is therefore written alone, and each attempt is noted before and cleared
//! after it. Only attempts that never returned count against it.

use millrace_stream::Delivery;

/// From this delivery on, an entry is written in a transaction of its own.
pub const SUSPECT_FROM_DELIVERY: u32 = 3;
/// Attempts that may fail to return before the entry goes to the dead letters without being unpacked.
pub const LOST_ATTEMPTS_MAX: u32 = 5;

/// Whether the entry has to be written alone.
pub fn is_suspect(delivery: &Delivery) -> bool {
    delivery.delivered >= SUSPECT_FROM_DELIVERY
}

/// The reason for dead-lettering an entry, if too many attempts at it never returned. `attempts` includes the
/// one that begins now.
pub fn quarantine_reason(attempts: u32) -> Option<String> {
    let lost = attempts.saturating_sub(1);
    (lost >= LOST_ATTEMPTS_MAX).then(|| format!("handling this entry ended the worker {lost} times"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_quarantined_only_after_five_attempts_that_never_returned() {
        assert_eq!(quarantine_reason(1), None);
        assert_eq!(quarantine_reason(LOST_ATTEMPTS_MAX), None);
        assert!(quarantine_reason(LOST_ATTEMPTS_MAX + 1).is_some());
    }
}
