//! Limits per customer: how much a meter may count for one subject in an hour, a day or a month of the
//! stream's clock.
//!
//! A [`LimitSet`] says what each event of a batch is charged to, and how much. The stream keeps a counter for
//! each [`Counter`], and charges a batch only if every limit allows all of it ([`charge`]). What was charged
//! travels with the batch in its entry, so that a worker gives back exactly the amounts of the events that it
//! does not store.
//!
//! This module must never round a charge down: no more than the limit is admitted.

mod amount;
mod charge;
mod codec;
mod counter;
mod set;

pub use amount::{Amount, AmountError};
pub use charge::{Charge, ChargeRefused, LimitedCharge, Refund, charge, events_over};
pub use codec::{decode_charges, decode_refunds, encode_charges, encode_refunds};
pub use counter::{Counter, CounterState, Period};
pub use set::{CustomerLimit, LimitRefused, LimitSet, check_limited};
