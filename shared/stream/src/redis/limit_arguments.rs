//! Charges and refunds as arguments of the scripts.

use redis::Cmd;

use super::keys::ShardKeys;
use crate::{Settlement, StreamError};
use millrace_event::limit::{Amount, LimitedCharge};
use millrace_event::plan::ProjectId;

/// Appends the keys of the charges of these batches, after all other keys of admit.lua.
pub(super) fn add_charge_keys<'a>(
    command: &mut Cmd,
    keys: &ShardKeys,
    epoch: &str,
    batches: impl Iterator<Item = (ProjectId, &'a [LimitedCharge])>,
) {
    for (project, charges) in batches {
        for limited in charges {
            command.arg(keys.limit(epoch, project, &limited.charge.counter));
        }
    }
}

/// Appends the arguments of the charges, after all other arguments of admit.lua. `field` is the field `l` of
/// the entry.
pub(super) fn add_charges<'a>(
    command: &mut Cmd,
    field: &[u8],
    batches: impl Iterator<Item = &'a [LimitedCharge]>,
) {
    command.arg(field);
    for (batch, charges) in batches.enumerate() {
        for LimitedCharge { charge, limit } in charges {
            command.arg(batch + 1).arg(charge.counter.period.letter().to_string());
            add_amount(command, charge.amount());
            add_amount(command, *limit);
        }
    }
}

/// Appends the keys of the refunds, after all other keys of settle.lua.
pub(super) fn add_refund_keys(command: &mut Cmd, keys: &ShardKeys, epoch: &str, settlements: &[Settlement]) {
    for Settlement { batches, refunds, .. } in settlements {
        for (batch, refund) in refunds {
            command.arg(keys.limit(epoch, batches[*batch].project, &refund.counter));
        }
    }
}

/// Appends the arguments of the refunds, after all other arguments of settle.lua.
pub(super) fn add_refunds(command: &mut Cmd, settlements: &[Settlement]) {
    let mut before = 0;
    for Settlement { batches, refunds, .. } in settlements {
        for (batch, refund) in refunds {
            command.arg(before + batch + 1).arg(refund.counter.period.letter().to_string());
            add_amount(command, refund.amount);
        }
        before += batches.len();
    }
}

pub(super) fn add_amount(command: &mut Cmd, amount: Amount) {
    let (units, billionths) = amount.parts();
    command.arg(units).arg(billionths);
}

/// What was used of each counter, as admit.lua answers: units and billionths of each, separated by spaces.
pub(super) fn used(text: &str) -> Result<Vec<Amount>, StreamError> {
    let numbers: Result<Vec<u64>, _> = text.split_ascii_whitespace().map(str::parse).collect();
    let malformed = || StreamError::Refused(format!("admit.lua answered {text:?} for used amounts"));
    let numbers = numbers.map_err(|_| malformed())?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(malformed());
    }
    let amount = |[units, billionths]: &[u64; 2]| {
        Ok(Amount::of_parts(*units, u32::try_from(*billionths).map_err(|_| malformed())?))
    };
    pairs.iter().map(amount).collect()
}
