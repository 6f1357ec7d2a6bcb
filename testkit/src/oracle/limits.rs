//! The limits of a plan.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlanLimits {
    pub requests_per_minute: u64,
    /// Requests that may arrive at the same time.
    pub burst: u64,
    /// `None` is unlimited.
    pub events_per_month: Option<u64>,
}
