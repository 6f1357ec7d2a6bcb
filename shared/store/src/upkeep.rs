//! What upkeep is asked to do, and what it did.

use std::time::Duration;

/// Settings of [`crate::Ledger::upkeep`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpkeepPolicy {
    /// Event partitions (and dead letters) older than this are retired; `None` keeps them for ever.
    pub retention_days: Option<u32>,
    /// Ledger partitions older than this are retired, unless an entry as old is still in the stream. At least 2.
    pub ledger_days: u32,
    /// Receive time of the oldest entry in any stream, milliseconds since 1970; `None` when all are empty or unknown
    /// (`Some(0)` when unknown: then nothing of the ledger is retired).
    pub oldest_pending_ms: Option<u64>,
    /// Our own transactions older than this are terminated.
    pub transaction_age_max: Duration,
}

/// What one round of upkeep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UpkeepReport {
    /// Partitions made.
    pub partitions_made: u64,
    /// Partitions dropped.
    pub partitions_retired: u64,
    /// Days ahead of today for which a partition of `events` and of the ledger exists.
    pub days_ahead: u32,
}
