//! What a batch is charged, and the decision on it: the reference model of the streams.

use super::amount::Amount;
use super::counter::Counter;

/// What the events of one batch take of one counter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Charge {
    pub counter: Counter,
    /// The places of the events in the batch, in order, each with its amount.
    pub events: Vec<(u32, Amount)>,
}

/// A charge, and the limit that it must stay within.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitedCharge {
    pub charge: Charge,
    pub limit: Amount,
}

/// An amount that is given back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refund {
    pub counter: Counter,
    pub amount: Amount,
}

/// A batch takes more of a counter than its limit has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChargeRefused;

impl Charge {
    /// What all of its events take.
    pub fn amount(&self) -> Amount {
        self.events.iter().fold(Amount::ZERO, |sum, (_, amount)| sum.plus(*amount))
    }

    /// What the events take that are not stored; `None` if that is nothing.
    pub fn refund(&self, is_stored: impl Fn(u32) -> bool) -> Option<Refund> {
        let unstored = self.events.iter().filter(|(event, _)| !is_stored(*event));
        let amount = unstored.fold(Amount::ZERO, |sum, (_, amount)| sum.plus(*amount));
        (amount > Amount::ZERO).then(|| Refund { counter: self.counter.clone(), amount })
    }
}

/// Charges a batch. `used` has what was used of the counter of each charge. Returns what is used afterwards,
/// in the same order.
///
/// # Errors
/// [`ChargeRefused`] when one limit does not allow all of it; nothing is charged then.
pub fn charge(used: &[Amount], charges: &[LimitedCharge]) -> Result<Vec<Amount>, ChargeRefused> {
    let after = used.iter().zip(charges).map(|(used, LimitedCharge { charge, limit })| {
        let after = used.plus(charge.amount());
        if after > *limit { Err(ChargeRefused) } else { Ok(after) }
    });
    after.collect()
}

/// The places of the events that no longer fit when the events of the batch are charged one after the other,
/// in order. An event that does not fit takes nothing from those after it. `used` is as in [`charge`].
pub fn events_over(used: &[Amount], charges: &[LimitedCharge]) -> Vec<u32> {
    let mut takes: Vec<(u32, usize, Amount)> = Vec::new();
    for (at, charged) in charges.iter().enumerate() {
        takes.extend(charged.charge.events.iter().map(|(event, amount)| (*event, at, *amount)));
    }
    takes.sort_unstable_by_key(|(event, at, _)| (*event, *at));
    let mut used = used.to_vec();
    let mut over = Vec::new();
    for of_event in takes.chunk_by(|one, next| one.0 == next.0) {
        let fits = |(_, at, amount): &(u32, usize, Amount)| used[*at].plus(*amount) <= charges[*at].limit;
        if of_event.iter().all(fits) {
            of_event.iter().for_each(|(_, at, amount)| used[*at] = used[*at].plus(*amount));
        } else {
            over.push(of_event[0].0);
        }
    }
    over
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::counter::Period;
    use super::*;
    use crate::meter::MeterId;

    fn limited(meter: i64, limit: u64, events: &[(u32, u64)]) -> LimitedCharge {
        let counter = Counter { meter: MeterId(meter), period: Period::Month, subject: "acme".to_owned() };
        let events = events.iter().map(|(event, units)| (*event, Amount::of_parts(*units, 0))).collect();
        LimitedCharge { charge: Charge { counter, events }, limit: Amount::of_parts(limit, 0) }
    }

    fn units(units: u64) -> Amount {
        Amount::of_parts(units, 0)
    }

    #[test]
    fn a_limit_can_be_used_to_its_last_part_and_no_further() {
        let charges = [limited(1, 10, &[(0, 4), (1, 6)])];
        assert_eq!(charge(&[units(0)], &charges), Ok(vec![units(10)]));
        assert_eq!(charge(&[Amount::of_parts(0, 1)], &charges), Err(ChargeRefused));
    }

    #[test]
    fn an_event_that_does_not_fit_takes_nothing_from_those_after_it() {
        let charges = [limited(1, 10, &[(0, 8), (1, 5), (2, 2)]), limited(2, 1, &[(0, 1), (2, 1)])];
        assert_eq!(events_over(&[units(0), units(0)], &charges), [1, 2]);
        assert_eq!(events_over(&[units(0), units(1)], &charges), [0, 2], "one counter is used up");
    }

    #[test]
    fn what_is_not_stored_is_given_back() {
        let charge = limited(1, 10, &[(0, 8), (3, 5), (4, 2)]).charge;
        assert_eq!(charge.refund(|event| event != 3).map(|refund| refund.amount), Some(units(5)));
        assert_eq!(charge.refund(|_| true), None);
    }

    proptest! {
        #[test]
        fn a_batch_is_refused_exactly_when_an_event_of_it_is_over(
            amounts in proptest::collection::vec((0_u64..5, 0_u64..5), 1..8),
            used in (0_u64..10, 0_u64..10),
            limits in (0_u64..20, 0_u64..20),
        ) {
            let of = |pick: fn(&(u64, u64)) -> u64| -> Vec<(u32, u64)> {
                (0..).zip(amounts.iter().map(pick)).filter(|(_, amount)| *amount > 0).collect()
            };
            let charges = [limited(1, limits.0, &of(|pair| pair.0)), limited(2, limits.1, &of(|pair| pair.1))];
            let used = [units(used.0), units(used.1)];
            // A counter above its limit, after the limit was lowered, refuses only what takes more of it.
            let charges: Vec<_> =
                charges.into_iter().filter(|limited| !limited.charge.events.is_empty()).collect();
            let used: Vec<_> = charges.iter().map(|limited| used[limited.charge.counter.meter.0 as usize - 1]).collect();
            prop_assert_eq!(charge(&used, &charges).is_err(), !events_over(&used, &charges).is_empty());
        }
    }
}
