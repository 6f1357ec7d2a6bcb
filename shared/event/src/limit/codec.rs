//! Charges and refunds as bytes: the field `l` of an entry, and what the store keeps of a batch. Encoding and
//! decoding are side by side.
//!
//! Numbers are LEB128: seven bits a byte, the lowest first, the highest bit set in all bytes but the last. A
//! counter is its meter, the letter of its period, and its subject after its length in bytes. An amount is
//! its units and its billionths.

use super::amount::Amount;
use super::charge::{Charge, Refund};
use super::counter::{Counter, Period};
use crate::meter::MeterId;

/// Encodes the charges of the batches of an entry, in their order: for each batch the number of charges, and
/// of each its counter, the number of events, and of each event how many places it is after the one before,
/// and its amount. `None` when there are none.
pub fn encode_charges<'a>(batches: impl IntoIterator<Item = &'a [Charge]>) -> Option<Vec<u8>> {
    let (mut bytes, mut any) = (Vec::new(), false);
    for charges in batches {
        any |= !charges.is_empty();
        put(&mut bytes, charges.len() as u64);
        for Charge { counter, events } in charges {
            put_counter(&mut bytes, counter);
            put(&mut bytes, events.len() as u64);
            let mut before = 0;
            for (event, amount) in events {
                put(&mut bytes, u64::from(event.wrapping_sub(before)));
                before = *event;
                put_amount(&mut bytes, *amount);
            }
        }
    }
    any.then_some(bytes)
}

/// Decodes the charges of this many batches.
///
/// # Errors
/// What is wrong, for operators.
pub fn decode_charges(bytes: &[u8], batches: usize) -> Result<Vec<Vec<Charge>>, String> {
    let mut reader = Reader(bytes);
    let mut all = Vec::new();
    for _ in 0..batches {
        let mut charges = Vec::new();
        for _ in 0..reader.number()? {
            let counter = reader.counter()?;
            let (mut events, mut before) = (Vec::new(), 0_u32);
            for _ in 0..reader.number()? {
                let step = u32::try_from(reader.number()?).map_err(|_| malformed())?;
                before = before.checked_add(step).ok_or_else(malformed)?;
                events.push((before, reader.amount()?));
            }
            charges.push(Charge { counter, events });
        }
        all.push(charges);
    }
    reader.end(all)
}

/// Encodes the refunds of one batch.
pub fn encode_refunds(refunds: &[Refund]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, refunds.len() as u64);
    for Refund { counter, amount } in refunds {
        put_counter(&mut bytes, counter);
        put_amount(&mut bytes, *amount);
    }
    bytes
}

/// Decodes the refunds of one batch.
///
/// # Errors
/// What is wrong, for operators.
pub fn decode_refunds(bytes: &[u8]) -> Result<Vec<Refund>, String> {
    let mut reader = Reader(bytes);
    let mut refunds = Vec::new();
    for _ in 0..reader.number()? {
        refunds.push(Refund { counter: reader.counter()?, amount: reader.amount()? });
    }
    reader.end(refunds)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_counter(bytes: &mut Vec<u8>, counter: &Counter) {
    put(bytes, counter.meter.0.cast_unsigned());
    bytes.push(counter.period.letter() as u8);
    put(bytes, counter.subject.len() as u64);
    bytes.extend_from_slice(counter.subject.as_bytes());
}

fn put_amount(bytes: &mut Vec<u8>, amount: Amount) {
    let (units, billionths) = amount.parts();
    put(bytes, units);
    put(bytes, billionths.into());
}

fn malformed() -> String {
    "the charges to limits (field l) are malformed".to_owned()
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, String> {
        let (first, rest) = self.0.split_first().ok_or_else(malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, String> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(malformed())
    }

    fn counter(&mut self) -> Result<Counter, String> {
        let meter = MeterId(self.number()?.cast_signed());
        let period = Period::of_letter(self.byte()?).ok_or_else(malformed)?;
        let bytes = usize::try_from(self.number()?).map_err(|_| malformed())?;
        let (subject, rest) = self.0.split_at_checked(bytes).ok_or_else(malformed)?;
        self.0 = rest;
        let subject = String::from_utf8(subject.to_vec()).map_err(|_| malformed())?;
        Ok(Counter { meter, period, subject })
    }

    fn amount(&mut self) -> Result<Amount, String> {
        let (units, billionths) = (self.number()?, self.number()?);
        Ok(Amount::of_parts(units, u32::try_from(billionths).map_err(|_| malformed())?))
    }

    fn end<T>(self, decoded: T) -> Result<T, String> {
        if self.0.is_empty() { Ok(decoded) } else { Err(malformed()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use strum::VariantArray;

    use super::*;

    fn counter() -> impl Strategy<Value = Counter> {
        (any::<i64>(), proptest::sample::select(Period::VARIANTS), "\\PC{0,8}")
            .prop_map(|(meter, period, subject)| Counter { meter: MeterId(meter), period, subject })
    }

    fn amount() -> impl Strategy<Value = Amount> {
        (0..1_000_000_000_000_000_u64, 0..1_000_000_000_u32)
            .prop_map(|(units, billionths)| Amount::of_parts(units, billionths))
    }

    fn one_charge() -> impl Strategy<Value = Charge> {
        let events = vec((any::<u32>(), amount()), 0..5).prop_map(|mut events| {
            events.sort_unstable_by_key(|(event, _)| *event);
            events
        });
        (counter(), events).prop_map(|(counter, events)| Charge { counter, events })
    }

    proptest! {
        #[test]
        fn charges_are_decoded_as_they_were_encoded(batches in vec(vec(one_charge(), 0..4), 1..5)) {
            let encoded = encode_charges(batches.iter().map(Vec::as_slice));
            prop_assert_eq!(encoded.is_none(), batches.iter().all(Vec::is_empty));
            if let Some(bytes) = encoded {
                prop_assert_eq!(decode_charges(&bytes, batches.len()), Ok(batches.clone()));
                prop_assert!(decode_charges(&bytes[..bytes.len() - 1], batches.len()).is_err());
            }
        }

        #[test]
        fn refunds_are_decoded_as_they_were_encoded(refunds in vec((counter(), amount()), 0..5)) {
            let refunds: Vec<_> = refunds.into_iter().map(|(counter, amount)| Refund { counter, amount }).collect();
            prop_assert_eq!(decode_refunds(&encode_refunds(&refunds)), Ok(refunds));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..64), batches in 0..4_usize) {
            drop((decode_charges(&bytes, batches), decode_refunds(&bytes)));
        }
    }
}
