//! Moves figures of days of which retention has removed events: no event says any more what they are made of.

use millrace_event::meter::MeterId;

use super::super::meters;
use super::orders::subject;
use crate::erasures::Renaming;
use crate::{Erasure, ErasurePlace, ErasureStep, StoreError};

/// Figures of meters from `from` on, after the quarter `after_us` of the first of them.
pub(super) async fn step(
    client: &mut deadpool_postgres::Client,
    erasure: &Erasure,
    from: i64,
    after_us: i64,
) -> Result<ErasureStep, StoreError> {
    let infos = meters::meters(client, Some(erasure.project)).await?;
    let next = infos.iter().map(|info| info.meter.id).filter(|id| id.0 >= from).min();
    let Some(MeterId(id)) = next else {
        return Ok(ErasureStep { next: Some(ErasurePlace::Rest), ..ErasureStep::default() });
    };
    let after_us = if id == from { after_us } else { i64::MIN };
    let transaction = client.transaction().await?;
    meters::lock_figures(&transaction).await?;
    // Deleted meanwhile.
    let infos = meters::meters(transaction.client(), Some(erasure.project)).await?;
    let mut last = None;
    if let Some(info) = infos.iter().find(|info| info.meter.id.0 == id) {
        let renaming = Renaming { subject: subject(erasure)?, pseudonym: &erasure.pseudonym };
        last = meters::hand_over_quarters(transaction.client(), &info.meter, renaming, after_us).await?;
    }
    transaction.commit().await?;
    let next = match last {
        Some(after_us) => ErasurePlace::Figures { meter: id, after_us },
        None => ErasurePlace::Figures { meter: id + 1, after_us: i64::MIN },
    };
    Ok(ErasureStep { next: Some(next), ..ErasureStep::default() })
}
