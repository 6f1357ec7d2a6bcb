//! Counts of a project in the store: usage by window, and totals for audits.

use millrace_event::plan::ProjectId;
use time::OffsetDateTime;

/// Rows of `usage_hourly`, summed over a window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsageRow {
    /// Start of the window, or of the period if that begins within the window.
    pub start: OffsetDateTime,
    /// Events stored and not cancelled.
    pub events: u64,
    /// Size of the rows, those of cancelled events included.
    pub bytes: u64,
    /// Events that were stored before.
    pub duplicates: u64,
    /// Events in dead letters.
    pub dead: u64,
    /// The part of `duplicates` whose payload differs from that of the stored event.
    pub conflicts: u64,
    /// Events stored and cancelled, which are not in `events`.
    pub cancelled: u64,
}

/// The width of a usage window. All windows are in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UsageWindow {
    Hour,
    Day,
    Month,
}

/// Events by outcome, summed over a part of the ledger or of `usage_hourly`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LedgerSums {
    pub stored: u64,
    pub duplicate: u64,
    pub dead: u64,
}

/// All-time totals of one project, and the rows that the tables have of it now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProjectTotals {
    pub project: ProjectId,
    /// Sum of `usage_hourly.events`, cancelled events included.
    pub stored: u64,
    /// Sum of `usage_hourly.cancelled`, a part of `stored`.
    pub cancelled: u64,
    /// Sum of `usage_hourly.duplicates`.
    pub duplicate: u64,
    /// Sum of `usage_hourly.dead`.
    pub dead: u64,
    /// Sum of `usage_hourly.events` of the current month, without redriven events.
    pub stored_this_month: u64,
    /// Rows in `events`, plus rows that retention and erasures have removed (`retired`).
    pub event_rows: u64,
    /// Rows in `cancellations`, plus rows that erasures have removed.
    pub cancelled_rows: u64,
    /// Events in `dead_letters`, plus events that retention and erasures have removed.
    pub dead_rows: u64,
    /// Sums of the ledger, as far as it is kept.
    pub ledger: LedgerSums,
    /// Sums of `usage_hourly` over the same hours. Always equal to `ledger` in a consistent store.
    pub ledger_hours: LedgerSums,
}

impl ProjectTotals {
    /// The totals of a project without events.
    pub fn zero(project: ProjectId) -> Self {
        Self {
            project,
            stored: 0,
            cancelled: 0,
            duplicate: 0,
            dead: 0,
            stored_this_month: 0,
            event_rows: 0,
            cancelled_rows: 0,
            dead_rows: 0,
            ledger: LedgerSums::default(),
            ledger_hours: LedgerSums::default(),
        }
    }
}
