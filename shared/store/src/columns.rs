//! Lists of columns that several statements read or write, with the same names and in the same order in every
//! store.

/// The limits of a row of `plans`.
pub(super) const PLAN_COLUMNS: &str = "requests_per_minute, burst, events_per_month, events_per_batch";
/// The policy in a row of `projects`.
pub(super) const POLICY_COLUMNS: &str = "dedupe, oldest_s, newest_s, out_of_bounds, store_ip";
