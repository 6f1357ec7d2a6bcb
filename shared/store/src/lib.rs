//! The store: the database that keeps the events.
//!
//! [`Accounts`], [`AdminKeys`], [`Cancellations`], [`Erasures`], [`Ledger`], [`Limits`], [`Meters`],
//! [`Operators`], [`Rejections`], [`Thresholds`] and [`Writer`] are the contract, one trait for each kind of
//! caller.
//! [`postgres`] and [`sqlite`] implement it. The conformance suite in `tests/store/` uses only the traits,
//! and every implementation must pass it.
//!
//! An implementation must never: store or count an entry twice, however often it is written; dead-letter an
//! event because of a failure of its environment; return from [`Writer::write`] before everything is on disk.

mod account_changes;
mod admin;
mod admin_keys;
mod cancellations;
mod columns;
mod contract;
mod creation;
mod dead_reason;
mod erasures;
mod error;
mod hours;
mod json_columns;
mod ledger;
mod letters;
mod limit_tally;
mod limits;
mod lost;
mod meter_zone;
mod meters;
pub mod metrics;
mod migration;
mod payload;
pub mod postgres;
mod quarters;
mod rebuild;
mod redrive;
mod rejection_tally;
mod rejections;
mod replication;
pub mod sqlite;
mod thresholds;
mod totals;
mod upkeep;
mod writer;

pub use self::account_changes::{AccountChanges, ChangeMark, ChangedAccounts};
pub use self::admin::{
    KeyInfo, KeyOptions, KeyRotation, KeyUse, NewKey, PlanChange, PlanUpdate, PolicyChange, PolicyUpdate,
    ProjectInfo, ProjectUsage,
};
pub use self::admin_keys::{AdminKey, AdminKeyInfo, AdminKeys, NewAdminKey};
pub use self::cancellations::{
    CANCEL_EVENTS_MAX, CANCEL_REASON_CHARS_MAX, CancelOrder, CancelOutcome, Cancellations, CancelledEvent,
    open_since,
};
pub use self::contract::{Accounts, Ledger, Meters, Operators, Rejections, SharedStore, Store};
pub use self::erasures::{
    Erasure, ErasureKind, ErasureOrder, ErasurePlace, ErasureStep, Erasures, RecordsPlace, SUBJECT_BYTES_MAX,
    SubjectRecords,
};
pub use self::error::{StoreError, WriteError};
pub use self::hours::{PartOfHour, end_of_hour, full_hour};
pub use self::json_columns::JsonColumns;
pub use self::letters::{DeadLetter, LetterFilter, LetterPayload};
pub use self::limits::{LimitFilter, LimitInfo, Limits, RequestCharges, RequestRefunds};
pub use self::lost::{LostHour, StreamRecord};
pub use self::meter_zone::{METER_DAYS_MAX, METER_WINDOWS_MAX, MeterPeriodError, MeterZone};
pub use self::meters::{
    BackfillStep, GroupFilter, MeterCheck, MeterFaultCount, MeterInfo, MeterQuery, MeterRow, MeterStart,
    MeterWindow,
};
pub use self::quarters::{PartOfQuarter, end_of_quarter, full_quarter};
pub use self::redrive::{RedriveOrder, RedriveRecord, RedriveResult, rows_of_letter};
pub use self::rejections::{
    RejectionCount, RejectionKind, RejectionReport, RejectionSample, RejectionSum, SAMPLE_PAYLOAD_BYTES_MAX,
    SAMPLES_KEPT,
};
pub use self::replication::{ReplicationProgress, ServerState, Standbys};
pub use self::thresholds::{
    ClaimedNotification, DeliveryResult, DeliveryStatus, NOTIFICATION_DAYS, Notification,
    NotificationBacklog, NotificationState, ThresholdDefinition, ThresholdInfo, ThresholdPeriod,
    ThresholdRule, ThresholdUpdate, Thresholds, can_have_threshold,
};
pub use self::totals::{LedgerSums, ProjectTotals, UsageRow, UsageWindow};
pub use self::upkeep::{UpkeepPolicy, UpkeepReport};
pub use self::writer::{Payload, WriteOutcome, WriteRequest, Writer};
