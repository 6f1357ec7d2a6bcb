//! The decision whether a shard of the stream can be trusted. Pure: it reads nothing and changes nothing.

use millrace_event::{EntryId, Epoch};

/// What stream, store and process know of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// The epoch that the store has on record.
    pub recorded: Option<Epoch>,
    /// The epoch of the stream.
    pub held: Option<Epoch>,
    /// The epoch that this process trusted last.
    pub trusted: Option<Epoch>,
    /// Where the stream stands. It was read last.
    pub last: EntryId,
    /// The highest entry that was written to the store.
    pub written: EntryId,
    /// The highest entry that this process has acknowledged.
    pub acknowledged: EntryId,
    /// Batches that this process has acknowledged are neither in the stream nor in the store.
    pub is_lacking: bool,
}

/// What to do with the shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Trust its epoch. What is lacking was lost before another process rebuilt the counters.
    Trust,
    /// Rebuild its counters: it has another epoch than the recorded one, or none.
    Rebuild,
    /// Rebuild its counters: it has the recorded epoch and went back in time.
    RolledBack,
}

impl Evidence {
    /// The entry above which a rebuilt shard must continue.
    pub fn floor(&self) -> EntryId {
        self.written.max(self.acknowledged)
    }

    pub fn verdict(&self) -> Verdict {
        if self.recorded.is_none() || self.held != self.recorded {
            return Verdict::Rebuild;
        }
        // After another process rebuilt the counters, the stream has an epoch that this process does not
        // trust yet.
        let is_lacking = self.is_lacking && self.trusted == self.held;
        if self.last < self.floor() || is_lacking { Verdict::RolledBack } else { Verdict::Trust }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const E: Option<Epoch> = Some(Uuid::from_u128(1));
    const ANOTHER: Option<Epoch> = Some(Uuid::from_u128(2));

    fn at(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    fn good() -> Evidence {
        Evidence {
            recorded: E,
            held: E,
            trusted: E,
            last: at(9),
            written: at(5),
            acknowledged: at(9),
            is_lacking: false,
        }
    }

    #[test]
    fn a_shard_with_the_recorded_epoch_that_lacks_nothing_is_trusted() {
        assert_eq!(good().verdict(), Verdict::Trust);
        assert_eq!(Evidence { trusted: None, acknowledged: at(0), ..good() }.verdict(), Verdict::Trust);
    }

    #[test]
    fn a_shard_below_what_was_written_or_acknowledged_went_back_in_time() {
        assert_eq!(Evidence { last: at(8), ..good() }.verdict(), Verdict::RolledBack);
        let restarted = Evidence { trusted: None, acknowledged: at(0), last: at(4), ..good() };
        assert_eq!(restarted.verdict(), Verdict::RolledBack, "only the ledger knows after a restart");
        assert_eq!(restarted.floor(), at(5));
    }

    #[test]
    fn missing_batches_count_only_against_the_epoch_under_which_they_were_acknowledged() {
        assert_eq!(Evidence { is_lacking: true, ..good() }.verdict(), Verdict::RolledBack);
        let rebuilt = Evidence { recorded: ANOTHER, held: ANOTHER, is_lacking: true, ..good() };
        assert_eq!(rebuilt.verdict(), Verdict::Trust, "another process has rebuilt the counters since");
    }

    fn epochs() -> impl Strategy<Value = Option<Epoch>> {
        prop_oneof![Just(None), Just(E), Just(ANOTHER)]
    }

    proptest! {
        #[test]
        fn nothing_is_trusted_that_stands_lower_or_has_another_epoch(
            (recorded, held, trusted) in (epochs(), epochs(), epochs()),
            (last, written, acknowledged) in (0..4_u64, 0..4_u64, 0..4_u64),
            is_lacking: bool,
        ) {
            let (last, written, acknowledged) = (at(last), at(written), at(acknowledged));
            let evidence = Evidence { recorded, held, trusted, last, written, acknowledged, is_lacking };
            let may_be_trusted = recorded.is_some() && recorded == held && last >= written && last >= acknowledged;
            if evidence.verdict() == Verdict::Trust {
                prop_assert!(may_be_trusted);
                prop_assert!(!is_lacking || trusted != held);
            }
            // A rebuild with this floor settles it for any evidence.
            let floor = evidence.floor();
            let after = Evidence {
                recorded: ANOTHER, held: ANOTHER, last: at(last.ms.max(floor.ms + 1)), is_lacking: false, ..evidence
            };
            prop_assert_eq!(after.verdict(), Verdict::Trust);
        }
    }
}
