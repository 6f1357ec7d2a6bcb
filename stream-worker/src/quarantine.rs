//! The quarantine of batches that end the process or the lane whenever they are handled. It must never apply
//! to rows that the database rejects: the store dead-letters those.
//!
//! The number of deliveries proves nothing: a restart or a long outage raises it for harmless entries as
//! well. The batches of an entry delivered often are therefore written alone, one after the other, and each
//! attempt is noted before and cleared after it. Only attempts that never returned count. They count against
//! the first batch of the entry that is not in the ledger: those before it were written by an attempt that
//! returned.

use millrace_stream::Delivery;

/// From this delivery on, the batches of an entry are written in transactions of their own.
pub const SUSPECT_FROM_DELIVERY: u32 = 3;
/// Attempts that may fail to return before the batch goes to the dead letters without its rows being read.
pub const LOST_ATTEMPTS_MAX: u32 = 5;
/// Attempts to set a batch aside, after those. They may have been lost for another reason, such as a restart.
const SET_ASIDE_ATTEMPTS_MAX: u32 = 3;

/// What is to be done with a suspect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Handling {
    Write,
    /// Its next batch goes to the dead letters.
    SetBatchAside {
        /// For operators.
        reason: String,
    },
    /// It goes to the dead letters, and must not even be decompressed: attempts to set a batch aside did
    /// not return either.
    SetEntryAside {
        /// For operators.
        reason: String,
    },
}

/// Whether the batches of the entry have to be written alone.
pub fn is_suspect(delivery: &Delivery) -> bool {
    delivery.delivered >= SUSPECT_FROM_DELIVERY
}

/// What to do with a suspect. `attempts` is how many attempts did not return, and the one that begins now.
pub fn handling(attempts: u32) -> Handling {
    let lost = attempts.saturating_sub(1);
    let reason = format!("handling this entry ended the worker {lost} times");
    if lost < LOST_ATTEMPTS_MAX {
        Handling::Write
    } else if lost < LOST_ATTEMPTS_MAX + SET_ASIDE_ATTEMPTS_MAX {
        Handling::SetBatchAside { reason }
    } else {
        Handling::SetEntryAside { reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_set_aside_only_after_five_attempts_that_never_returned() {
        assert_eq!(handling(1), Handling::Write);
        assert_eq!(handling(LOST_ATTEMPTS_MAX), Handling::Write);
        assert!(matches!(handling(LOST_ATTEMPTS_MAX + 1), Handling::SetBatchAside { .. }));
        assert!(matches!(handling(LOST_ATTEMPTS_MAX + 3), Handling::SetBatchAside { .. }));
        assert!(matches!(handling(LOST_ATTEMPTS_MAX + 4), Handling::SetEntryAside { .. }));
    }
}
