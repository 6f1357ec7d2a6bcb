//! Admission of one batch.

use super::admission_queue::AdmissionQueue;
use super::admit_command::{AdmitPlan, AdmitRequest};
use super::core::Core;
use crate::metrics::counted;
use crate::{Admission, Decision, StreamError};

/// Lua's numbers are doubles. Longer tolerances (142 years) and larger quotas are cut to this, so that every
/// sum in the script is an exact integer. No plan can tell the difference.
const EXACT_MAX: u64 = 1 << 52;

pub(super) async fn admit(
    core: &Core,
    queue: &AdmissionQueue,
    admission: &Admission<'_>,
) -> Result<Decision, StreamError> {
    let Admission { batch, plan, digest, awaited } = *admission;
    let shard = batch.project.shard(core.shard_count);
    let Some(epoch) = core.trusted_epoch(shard) else {
        return Ok(Decision::EpochChanged);
    };
    let flags = match (digest.is_some(), awaited) {
        (true, true) => "kw",
        (true, false) => "k",
        (false, true) => "w",
        (false, false) => "-",
    };
    let request = AdmitRequest {
        epoch,
        batch: batch.clone(),
        plan: AdmitPlan {
            project: batch.project,
            interval_us: plan.interval_us(),
            quota: plan.events_per_month.map_or(-1, |quota| quota.min(EXACT_MAX).cast_signed()),
            tolerance_us: plan.tolerance_us().min(EXACT_MAX),
        },
        flags,
        digest,
    };
    queue.submit(shard, request).await.map_err(counted)
}
