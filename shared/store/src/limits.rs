//! Limits of customers as the store keeps them. Pure, and the same for every store.

use std::collections::BTreeMap;

use millrace_event::limit::{Amount, Charge, Period, Refund};
use millrace_event::meter::MeterId;
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
    /// Limits, at most.
    pub at_most: u32,
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
