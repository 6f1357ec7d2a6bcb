//! Settings and results of upkeep.

use std::time::Duration;

/// Settings of [`crate::Ledger::upkeep`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpkeepPolicy {
    /// Days that events and dead letters are kept. `None` keeps them indefinitely.
    ///
    /// Dated partitions of `events` in PostgreSQL are removed whole, by the day of `timestamp`. Everything
    /// else is removed by `received_at`: rows of `events_default`, dead letters, and all data on SQLite.
    pub retention_days: Option<u32>,
    /// Days that the ledger is kept, by `received_at`; longer while an entry as old is still in the stream.
    /// At least 2.
    pub ledger_days: u32,
    /// Receive time of the oldest entry in any stream, milliseconds since 1970. `None` when all streams are
    /// empty; `Some(0)` when it is unknown, which removes nothing from the ledger.
    pub oldest_pending_ms: Option<u64>,
    /// Worker sessions with an older transaction are terminated.
    pub transaction_age_max: Duration,
}

/// The result of one round of upkeep.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UpkeepReport {
    /// Partitions created for the days around today. Days made on demand are not counted here.
    pub partitions_made: u64,
    /// Partitions dropped. On SQLite: days of which rows were deleted.
    pub partitions_retired: u64,
    /// Days after today for which both `events` and the ledger have a partition.
    pub days_ahead: u32,
}
