//! The store on PostgreSQL.
//!
//! Modules by purpose:
//! - A write goes through `write` (the loop of attempts), `draft` (entries and rows, with their known
//!   states), `selection` (the rows to send, and what the others repeat), `attempt` (one transaction),
//!   `parameters`, `statements` and `writer_session`; `careful` is the slow path, with `add_event` for one
//!   event, `setback` and `error` classify failures, `copy` frames rows, `recent` remembers keys.
//! - The request path uses `accounts`, `listen`, `usage` and `epochs`; operators use `admin`, `letters` and
//!   `redrive`; `cancellations` takes events back, and `erasures` removes them; `rejections` has what was
//!   refused. `thresholds` has the notifications.
//! - `upkeep` and `partitions` bound the size of the database; `migrate` applies the schema, and
//!   `json_columns` has the type of its JSON columns; `lineage` refuses an old primary, and `replication`
//!   looks at the standbys. `distribution` is what differs when `events` is on the worker nodes of Citus.
//! - `address` says where PostgreSQL is and how to prove who is who; `connector` opens every connection,
//!   `pool` keeps some, `session` is one outside the pool, `refusal` says why one is not taken, `deadline`
//!   bounds a call, and `pooler` recognizes a pooler that breaks sessions.
//!
//! This module must never commit rows without their ledger, hold a lock that others need while rows are sent,
//! or repeat the contents of events in an error.

mod accounts;
mod add_event;
mod address;
mod admin;
mod admin_keys;
mod announcements;
mod attempt;
mod cancellations;
mod careful;
mod connector;
mod copy;
mod deadline;
mod distribution;
mod draft;
mod epochs;
mod erasures;
mod error;
mod json_columns;
mod ledger_rows;
mod ledger_statements;
mod letters;
mod limits;
mod limits_store;
mod lineage;
mod listen;
mod lost;
mod meters;
mod meters_store;
mod migrate;
mod on_demand;
mod parameters;
mod partitions;
mod pool;
mod pooler;
mod recent;
mod redrive;
mod refusal;
mod rejections;
mod replication;
mod required_epoch;
mod selection;
mod session;
mod setback;
mod statements;
mod store;
mod thresholds;
mod thresholds_store;
mod upkeep;
mod usage;
mod write;
mod writer_session;

pub use self::address::{Environment, PostgresSource, SourceError, check_url};
pub use self::store::{PostgresOptions, PostgresStore};
