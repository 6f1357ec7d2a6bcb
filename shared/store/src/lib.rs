//! The second place an event can be: the store, where it stays.
//!
//! [`Accounts`], [`Ledger`], [`Operators`] and [`Writer`] are the contract, one trait for each audience. [`postgres`] and [`sqlite`]
//! implement it. The conformance suite in `tests/store/` is written against the traits alone, and every implementation
//! must pass it.
//!
//! What an implementation must never do: store or meter an entry twice, however often it is written; dead-letter an
//! event because of its environment; return from [`Writer::write`] before everything is on disk.

mod admin;
mod contract;
mod creating;
mod error;
mod ledger;
mod letters;
pub mod metrics;
pub mod postgres;
mod rebuild;
mod redrive;
pub mod sqlite;
mod totals;
mod upkeep;
mod writer;

pub use self::admin::{KeyInfo, KeyRotation, NewKey, PlanChange, ProjectInfo, ProjectUsage};
pub use self::contract::{Accounts, Ledger, Operators, SharedStore, Store};
pub use self::error::{StoreError, WriteError};
pub use self::letters::{DeadLetter, LetterFilter};
pub use self::redrive::{RedriveOrder, RedriveRecord, RedriveResult, rows_of_letter};
pub use self::totals::{ProjectTotals, UsageRow, UsageWindow};
pub use self::upkeep::{UpkeepPolicy, UpkeepReport};
pub use self::writer::{Payload, WriteOutcome, WriteRequest, Writer};
