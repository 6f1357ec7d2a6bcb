//! The store in one SQLite file, for a process that is API and worker at once. Other processes, such as an operator's
//! commands, may use the file at the same time.
//!
//! The rooms: `database` is the file and who may use it when; `write` is the way of the events, `ledger` what it asks
//! first; `accounts`, `watch`, `usage` and `epochs` serve the request path, `admin` and `letters` operators; `redrive` gives
//! dead letters another try; `upkeep` keeps the file bounded; `migrate` makes the schema. This file only hands out the work.
//!
//! What this room must never do: block a thread of the runtime, commit rows without their ledger, or repeat the contents
//! of events in an error.

mod accounts;
mod admin;
mod clock;
mod database;
mod epochs;
mod error;
mod ledger;
mod letters;
mod migrate;
mod redrive;
mod store;
mod upkeep;
mod usage;
mod watch;
mod write;

pub use self::database::FILE_NAME;
pub use self::store::SqliteStore;
