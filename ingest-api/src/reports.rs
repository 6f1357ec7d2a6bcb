//! Limits the queries of reports to the store: how many run concurrently, and how long each may take.

use std::time::Duration;

use millrace_store::StoreError;
use tokio::sync::Semaphore;

use crate::error::Problem;
use crate::problem_code::ProblemCode;

/// Reports that may run concurrently, so that requests do not pile up behind a slow store.
const REPORTS_MAX: usize = 64;
const REPORT_TIME_MAX: Duration = Duration::from_secs(5);

/// Bounds the reports that run concurrently.
#[derive(Debug)]
pub struct ReportGate {
    slots: Semaphore,
}

impl ReportGate {
    /// Waits for the store's answer to one query, at most five seconds.
    ///
    /// # Errors
    /// `store_unavailable` when the store fails or takes too long, `overloaded` when 64 reports are running
    /// already.
    pub async fn ask<T>(&self, question: impl Future<Output = Result<T, StoreError>>) -> Result<T, Problem> {
        let too_many = "too many reports are running; retry later";
        let _slot = self.slots.try_acquire().map_err(|_| Problem::new(ProblemCode::Overloaded, too_many))?;
        match tokio::time::timeout(REPORT_TIME_MAX, question).await {
            Ok(report) => Ok(report?),
            Err(_) => Err(Problem::store_unavailable()),
        }
    }
}

impl Default for ReportGate {
    fn default() -> Self {
        Self { slots: Semaphore::new(REPORTS_MAX) }
    }
}
