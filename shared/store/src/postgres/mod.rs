//! The store on PostgreSQL.
//!
//! The rooms: `write` is the way of the events (with `draft`, `statements`, `copy`, `recent` and `poison`);
//! `accounts`, `listen`, `usage` and `epochs` serve the request path, `admin` and `letters` operators, all from a small pool;
//! `redrive` gives dead letters another try; `upkeep` and `partitions` keep it bounded; `migrate` makes the schema. This file
//! only hands out the work.
//!
//! What this room must never do: commit rows without their ledger, hold a lock that others want while bytes flow, or
//! repeat the contents of events in an error.

mod accounts;
mod admin;
mod copy;
mod draft;
mod epochs;
mod error;
mod letters;
mod listen;
mod migrate;
mod partitions;
mod poison;
mod recent;
mod redrive;
mod session;
mod statements;
mod store;
mod upkeep;
mod usage;
mod write;

pub use self::store::{PostgresOptions, PostgresStore};
