//! Limits of customers as the store keeps them, and the trait of those who use them. The same for every
//! store.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use millrace_event::PendingBatch;
use millrace_event::limit::{Amount, Charge, CounterState, LimitSet, Period, Refund};
use millrace_event::meter::MeterId;
use millrace_event::plan::ProjectId;
use time::OffsetDateTime;

use crate::error::StoreError;

/// Days for which what was used is kept after its period.
pub(crate) const USAGE_DAYS: i64 = 40;

/// A limit, as operators and owners see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitInfo {
    pub project_name: String,
    pub meter: MeterId,
    /// The name of the meter.
    pub slug: String,
    pub period: Period,
    /// `None` for every customer that has no limit of its own.
    pub subject: Option<String>,
    pub amount: Amount,
    pub changed_at: OffsetDateTime,
}

/// Which limits are listed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LimitFilter {
    /// The name of the project.
    pub project: String,
    /// Only limits of this meter.
    pub slug: Option<String>,
    /// Only the limits of this customer.
    pub subject: Option<String>,
    /// Only limits after this one, in the order of the list.
    pub after: Option<LimitPlace>,
    /// Limits, at most.
    pub at_most: u32,
}

/// The place of a limit in the list of its project.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitPlace {
    pub slug: String,
    /// Empty for every customer that has no limit of its own.
    pub subject: String,
    pub period: Period,
}

/// Limits of customers: operators set them, API processes charge batches by them, and what was used is
/// restored from what writers have recorded.
#[async_trait]
pub trait Limits: Send + Sync {
    /// Sets how much a customer may use of a meter in each period: of every customer that has no limit of its
    /// own, without `subject`. Replaces the limit that there was.
    ///
    /// # Errors
    /// [`StoreError::Missing`] for a project or meter that does not exist, and [`StoreError::Invalid`] for a
    /// meter that cannot be limited.
    async fn set_limit(
        &self,
        project: &str,
        slug: &str,
        period: Period,
        subject: Option<&str>,
        amount: Amount,
    ) -> Result<LimitInfo, StoreError>;

    /// Removes a limit. False when there is none.
    async fn delete_limit(
        &self,
        project: &str,
        slug: &str,
        period: Period,
        subject: Option<&str>,
    ) -> Result<bool, StoreError>;

    /// The limits that match, ordered by meter, subject and period.
    async fn limits(&self, filter: &LimitFilter) -> Result<Vec<LimitInfo>, StoreError>;

    /// For each project that ever had a limit, a number that grows with each change of its limits.
    async fn limit_versions(&self) -> Result<HashMap<ProjectId, i64>, StoreError>;

    /// All limits of a project, by which batches are charged.
    async fn limit_set(&self, project: ProjectId) -> Result<LimitSet, StoreError>;

    /// Recomputes the counters of limits of a shard's projects from what was recorded and from the charged
    /// batches in the shard's stream, in one snapshot. Counters that are 0 are left out.
    async fn limits_for_rebuild(
        &self,
        shard: u16,
        shards: u16,
        pending: &[(PendingBatch, Vec<Charge>)],
    ) -> Result<Vec<(ProjectId, CounterState)>, StoreError>;
}

/// What batches were charged for limits, by the index of their write request. Those that were charged nothing
/// are left out.
pub type RequestCharges = BTreeMap<usize, Vec<Charge>>;

/// What batches give back to limits once they are settled, by the index of their write request.
pub type RequestRefunds = BTreeMap<usize, Vec<Refund>>;

/// What a row of a limit has as subject.
pub(crate) fn subject_column(subject: Option<&str>) -> Result<&str, StoreError> {
    match subject {
        Some("") => {
            Err(StoreError::Invalid("the subject is empty; leave it out to limit every customer".into()))
        }
        Some(subject) if subject.len() > millrace_event::event::SUBJECT_BYTES_MAX => {
            Err(StoreError::Invalid("the subject is longer than 200 bytes, so no event has it".into()))
        }
        Some(subject) if subject.contains('\0') => {
            Err(StoreError::Invalid("the subject has the character U+0000, so no event has it".into()))
        }
        Some(subject) => Ok(subject),
        None => Ok(""),
    }
}

/// The subject of a row.
pub(crate) fn subject_of(column: String) -> Option<String> {
    if column.is_empty() { None } else { Some(column) }
}

/// The period of a row.
pub(crate) fn period_of(column: &str) -> Result<Period, StoreError> {
    column.parse().map_err(|_| StoreError::Invalid(format!("{column:?} in a table of limits is no period")))
}

pub(crate) fn no_meter(project: &str, slug: &str) -> StoreError {
    StoreError::Missing(format!(
        "the project {project} has no meter {slug}; `millrace meter list` shows them"
    ))
}
