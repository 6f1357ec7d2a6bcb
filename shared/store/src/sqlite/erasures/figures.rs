//! Moves figures of days of which retention has removed events: no event says any more what they are made of.

use millrace_event::meter::MeterId;
use rusqlite::Connection;

use super::super::meters;
use super::orders::subject;
use crate::erasures::Renaming;
use crate::{Erasure, ErasurePlace, ErasureStep, StoreError};

/// Figures of meters from `from` on, after the quarter `after_us` of the first of them.
pub(super) fn step(
    transaction: &Connection,
    erasure: &Erasure,
    from: i64,
    after_us: i64,
) -> Result<ErasureStep, StoreError> {
    let infos = meters::meters(transaction, Some(erasure.project))?;
    let next = infos.iter().filter(|info| info.meter.id.0 >= from).min_by_key(|info| info.meter.id.0);
    let Some(info) = next else {
        return Ok(ErasureStep { next: Some(ErasurePlace::Rest), ..ErasureStep::default() });
    };
    let MeterId(id) = info.meter.id;
    let after_us = if id == from { after_us } else { i64::MIN };
    let renaming = Renaming { subject: subject(erasure)?, pseudonym: &erasure.pseudonym };
    let next = match meters::hand_over_quarters(transaction, &info.meter, renaming, after_us)? {
        Some(after_us) => ErasurePlace::Figures { meter: id, after_us },
        None => ErasurePlace::Figures { meter: id + 1, after_us: i64::MIN },
    };
    Ok(ErasureStep { next: Some(next), ..ErasureStep::default() })
}
