//! What the store has counted of a project: usage by window, and totals for audits.

use time::OffsetDateTime;

/// A row of `usage_hourly`, summed over a window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsageRow {
    /// Start of the window.
    pub start: OffsetDateTime,
    /// Events stored.
    pub events: u64,
    /// Bytes of their rows.
    pub bytes: u64,
    /// Events that were stored before.
    pub duplicates: u64,
    /// Events dead-lettered.
    pub dead: u64,
}

/// The width of a usage window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UsageWindow {
    /// An hour.
    Hour,
    /// A day, UTC.
    Day,
    /// A calendar month, UTC.
    Month,
}

/// All-time totals of one project in the store, and what is left of them in the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProjectTotals {
    /// The project.
    pub project: i64,
    /// Σ `usage_hourly`.events: stored, ever.
    pub stored: u64,
    /// Σ `usage_hourly`.duplicates, ever.
    pub duplicate: u64,
    /// Σ `usage_hourly`.dead, ever.
    pub dead: u64,
    /// Σ `usage_hourly`.events of the current month.
    pub stored_this_month: u64,
    /// Rows counted in `events` now, plus rows that retention has removed (`retired`).
    pub event_rows: u64,
    /// Events counted in `dead_letters` now, plus what retention has removed.
    pub dead_rows: u64,
    /// Over the ledger rows still kept: Σ stored, Σ duplicate, Σ dead.
    pub ledger: (u64, u64, u64),
    /// Over the same hours, Σ of `usage_hourly`: stored, duplicate, dead. Equal to `ledger`, or something is wrong.
    pub ledger_hours: (u64, u64, u64),
}
