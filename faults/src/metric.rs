//! Names of metrics of the programs that drills wait for.

/// Entries taken over from silent consumers.
pub(crate) const TAKEN_OVER: &str = "millrace_taken_over_entries_total";
/// Entries that were in the ledger.
pub(crate) const REDELIVERED: &str = "millrace_redelivered_entries_total";
/// Entries that another lane had settled first.
pub(crate) const SETTLED_LATE: &str = "millrace_settled_late_entries_total";
/// Transactions that failed because of the environment.
pub(crate) const WRITE_FAILURES: &str = "millrace_write_failures_total";
/// Reconnections to the stream.
pub(crate) const RECONNECTS: &str = "millrace_stream_reconnects_total";
/// Shards whose counters were rebuilt.
pub(crate) const REBUILDS: &str = "millrace_epoch_rebuilds_total";
/// Database sessions ended because they were stuck.
pub(crate) const STUCK_ENDED: &str = "millrace_zombies_terminated_total";
