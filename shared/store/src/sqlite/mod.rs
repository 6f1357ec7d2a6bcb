//! The store in one SQLite file, for a process that is both API and worker. Other processes, such as an
//! operator's commands, may use the file at the same time.
//!
//! Modules by purpose:
//! - `database` has the file and its connections.
//! - A write goes through `write`, `ledger` and `events`.
//! - The request path uses `accounts`, `watch`, `usage` and `epochs`; operators use `admin`, `letters`,
//!   `redrive` and `erasures`; `rejections` has what was refused, `meters` the figures of customers, and
//!   `thresholds` the notifications.
//! - `upkeep` bounds the size of the file; `migrate` applies the schema.
//!
//! This module must never block a thread of the runtime, commit rows without their ledger, or repeat the
//! contents of events in an error.

mod accounts;
mod admin;
mod admin_keys;
mod cancellations;
mod clock;
mod database;
mod epochs;
mod erasures;
mod error;
mod events;
mod ledger;
mod letters;
mod limits;
mod limits_store;
mod lost;
mod meters;
mod meters_store;
mod migrate;
mod number;
mod operators;
mod redrive;
mod rejections;
mod store;
mod thresholds;
mod thresholds_store;
mod upkeep;
mod usage;
mod watch;
mod write;

pub use self::error::FILE_NAME;
pub use self::store::SqliteStore;
